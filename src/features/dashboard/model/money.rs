//! Exact sums of amounts, plain and weighted with probabilities.

use crate::core::money::Money;

const NANOS: i128 = 1_000_000_000;

/// Amounts of one currency that were summed up in parts, so that no part can overflow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sum {
    /// The sum in billionths of a unit.
    nanos: i128,
    /// The sum of the billionths of each amount times its probability in per cent.
    weighted: i128,
}

impl Sum {
    /// Adds amounts with the same probability in per cent: the sums of their billions of units, of the units beyond, and
    /// of their nanos. Without a probability, they have no weight.
    pub fn add(&mut self, billions: i64, units: i64, nanos: i64, probability: Option<i32>) {
        let units = i128::from(billions) * NANOS + i128::from(units);
        let sum = units * NANOS + i128::from(nanos);
        self.nanos += sum;
        self.weighted += sum * i128::from(probability.unwrap_or(0));
    }

    /// The sum.
    pub fn amount(self, currency_code: &str) -> Money {
        money(self.nanos, currency_code)
    }

    /// The weighted sum, rounded to the nearest billionth of a unit, in the middle away from zero.
    pub fn weighted(self, currency_code: &str) -> Money {
        let half = if self.weighted < 0 { -50 } else { 50 };
        money((self.weighted + half) / 100, currency_code)
    }
}

/// A sum that is too large for a message becomes the largest amount.
fn money(sum: i128, currency_code: &str) -> Money {
    let largest = i128::from(i64::MAX) * NANOS + NANOS - 1;
    let sum = sum.clamp(-largest, largest);
    Money {
        currency_code: currency_code.to_owned(),
        units: i64::try_from(sum / NANOS).unwrap_or(i64::MAX),
        nanos: i32::try_from(sum % NANOS).unwrap_or(0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_weighted_sum_is_rounded_once() {
        let mut sum = Sum::default();
        sum.add(0, 100, 0, Some(33));
        sum.add(2, 5, 1, Some(50));
        sum.add(0, 7, 500_000_000, None);
        assert_eq!(sum.amount("EUR").to_string(), "2000000112.500000001 EUR");
        // 33 and 1,000,000,002.5000000005
        assert_eq!(sum.weighted("EUR").to_string(), "1000000035.500000001 EUR");
        let mut small = Sum::default();
        small.add(0, 0, 1, Some(49));
        assert_eq!(small.weighted("EUR").to_string(), "0 EUR");
        let mut reduced = Sum::default();
        reduced.add(0, -1, -1, Some(50));
        assert_eq!(reduced.weighted("EUR").to_string(), "-0.500000001 EUR");
    }

    #[test]
    fn a_sum_that_is_too_large_is_the_largest_amount() {
        let mut sum = Sum::default();
        for _ in 0..3 {
            sum.add(9_223_372_036, 854_775_807, 999_999_999, Some(100));
        }
        let largest = "9223372036854775807.999999999 EUR";
        assert_eq!(sum.amount("EUR").to_string(), largest);
        assert_eq!(sum.weighted("EUR").to_string(), largest);
    }
}
