"""Show a schedule per pixel: maps of gamma, their spread over images, what is noised first.

    python -m experiments.noise_maps --workdir=runs/digits_conditional

Writes into noise_maps/SPLIT-stepN/ of the work folder: index.html, which opens from disk, figures as
PNG and PDF, tables as CSV and LaTeX, and the maps as .npz. A scalar schedule, which has one gamma for
all pixels, is refused; experiments.schedules draws its curve.

The denoiser is never evaluated, only the schedule and, over --num_images images, the context's encoder
if it has one. gamma is -log SNR. Its spread over images and the KL of the context, in bits per image,
are zero unless the schedule is conditional (after MuLAN, Sahoo et al. 2023, arXiv:2312.13236).
"""

from absl import flags

from experiments.cli import evaluation_flags, launcher

_WORKDIR = evaluation_flags.workdir()
_OUT = evaluation_flags.out(within="noise_maps/SPLIT-stepN/")
_SPLIT = evaluation_flags.split("test")
_NUM_IMAGES = evaluation_flags.num_images(256)
# Even in t and clear of 0 and 1, where all pixels share the end points and a map is flat.
_TIMES = flags.DEFINE_list(
    "times",
    ["0.1", "0.3", "0.5", "0.7", "0.9"],
    "Times t at which gamma is drawn, separated by commas, each in [0, 1].",
)
_SEED = evaluation_flags.seed(0, "the contexts c ~ q(c|x), one per image")
_STEP = evaluation_flags.step()


def main():
    from pathlib import Path

    from experiments.reports import noise_maps
    from experiments.reports.tables import format_table
    from vdm.runs import checkpoints, provenance
    from vdm.runs.folder import check_writable, require_identity
    from vdm.runs.parts import build_trained, use_compilation_cache

    folder, times = Path(_WORKDIR.value), noise_maps.read_times(_TIMES.value)
    identity = require_identity(folder)
    use_compilation_cache()
    parts = build_trained(identity, split=_SPLIT.value)
    model = parts.model.as_diffusion("noise_maps")
    noise_maps.check(model)  # refuses a scalar schedule, whose maps would be flat

    # Another seed, --times or number of images overwrites the report; --out keeps both.
    step, params = checkpoints.load_ema(parts, folder, _STEP.value)
    name = f"{_SPLIT.value}-step{step}"
    out = Path(_OUT.value) if _OUT.value else folder / "noise_maps" / name
    check_writable(out, "--out" if _OUT.value else "--workdir")

    print(provenance.header())
    # The first images, not random ones: two runs on the same data show the same images.
    images = parts.dataset.split(_SPLIT.value)[: _NUM_IMAGES.value]
    maps = noise_maps.measure(model, params, images, times, _SEED.value)
    for table in noise_maps.all_tables(maps).values():
        print(format_table(table) + "\n")
    # Contexts are random: without their seed and images nobody could make the page again.
    facts = (
        f"the first {len(images)} images of {parts.dataset.spec.name}/{_SPLIT.value}, checkpoint step "
        f"{step}, averaged parameters, contexts of seed {_SEED.value}. {parts.dataset.spec.notes}"
    )
    print(f"written to {noise_maps.write(out, maps, facts)}")


if __name__ == "__main__":
    launcher.run(main, doc=__doc__)
