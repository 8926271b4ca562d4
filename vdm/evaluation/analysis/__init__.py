"""What a bound is made of, and what two bounds differ in."""
