"""Show when the bound depends on the path of gamma, with two pixels in closed form.

    python -m experiments.studies.two_pixels --out=docs/paths

Two correlated Gaussian pixels, five paths of (gamma_1, gamma_2) between the same end points, and two
denoisers: the posterior mean, whose input has both gammas, and one whose input has only their mean.
Prints the continuous-time denoising term of each in nats; writes paths.csv, paths.tex, paths.png and
paths.pdf.
"""

from absl import flags

from experiments.cli import launcher

_OUT = flags.DEFINE_string(
    "out",
    None,
    "Folder that everything is written into; created if needed. Required.",
    required=True,
)


def main():
    from pathlib import Path

    from experiments.reports import page, tables
    from experiments.studies import two_pixels_integral
    from vdm.runs.folder import check_writable, write_bytes

    out = Path(_OUT.value)
    check_writable(out, "--out")
    terms = two_pixels_integral.table()
    print(tables.format_table(terms))
    print(f"closed form, I(x; z_0) - I(x; z_1): {two_pixels_integral.closed_form():.4f} nats")
    write_bytes(out / "paths.csv", tables.to_csv(terms))
    write_bytes(out / "paths.tex", tables.to_latex(terms))
    for kind, content in page.render({"paths": two_pixels_integral.draw})["paths"].items():
        write_bytes(out / f"paths.{kind}", content)
    print(f"written to {out / 'paths.png'}")


if __name__ == "__main__":
    launcher.run(main, doc=__doc__)
