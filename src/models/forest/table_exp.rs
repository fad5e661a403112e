//! The exponential by a table of 2,048 powers of two and a polynomial of the third degree, with which
//! CatBoost computes its transforms. Near 0 it is as exact as the C library's, and far from it up to a
//! thousand units in the last place off.
//!
//! Sources: CatBoost 1.2, `library/cpp/fast_exp`; fmath by Mitsunari Shigeo, `expd`.

use std::f64::consts::LN_2;
use std::sync::LazyLock;

/// Entries of the table: steps from one power of two to the next.
const STEPS: i64 = 2048;

/// Adding this rounds a number to a whole one: the last bit of a sum this large is 1.
const ROUNDER: f64 = 6_755_399_441_055_744.0;

/// The polynomial is 1 + r + (B + r)·r²·A.
const A: f64 = 0.166_666_666_852_278_35;
const B: f64 = 3.000_000_002_795_539_4;

/// Outside of this range the answer is 0 or infinite. CatBoost clamps some rows of a batch to it instead,
/// as the processor has it: the only rows whose bits may differ.
const RANGE: (f64, f64) = (-708.396_418_532_264_1, 709.782_712_893_384);

static POWERS: LazyLock<Vec<f64>> = LazyLock::new(|| {
    let step = 1.0 / STEPS as f64;
    (0..STEPS)
        .map(|index| 2_f64.powf(index as f64 * step))
        .collect()
});

pub(super) fn exp(value: f64) -> f64 {
    if value <= RANGE.0 {
        return 0.0;
    }
    if value >= RANGE.1 {
        return f64::INFINITY;
    }
    let steps_per_unit = STEPS as f64 / LN_2;
    let steps = (value * steps_per_unit + ROUNDER) - ROUNDER;
    // What is left of the value, with the opposite sign.
    let rest = steps * (1.0 / steps_per_unit) - value;
    let series = (B - rest) * (rest * rest) * A - rest + 1.0;
    let steps = steps as i64;
    let power = POWERS[steps.rem_euclid(STEPS) as usize];
    let exponent = steps.div_euclid(STEPS);
    series * f64::from_bits(power.to_bits().wrapping_add_signed(exponent << 52))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_close_to_the_exact_one() {
        for step in -70_000..70_000 {
            let value = f64::from(step) / 100.0;
            let (given, exact) = (exp(value), value.exp());
            let allowed = 1e-15 * (1.0 + value.abs());
            assert!((given / exact - 1.0).abs() < allowed, "{value}: {given:e}");
        }
        assert_eq!(exp(0.0), 1.0);
        assert_eq!(exp(-1e9), 0.0);
        assert_eq!(exp(f64::NEG_INFINITY), 0.0);
        assert_eq!(exp(1e9), f64::INFINITY);
        assert!(exp(f64::NAN).is_nan());
    }
}
