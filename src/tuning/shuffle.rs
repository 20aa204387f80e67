//! Random numbers that depend on a seed and nothing else.

use crate::splitmix::SplitMix64;

/// One stream for each purpose.
pub(super) struct Random(SplitMix64);

impl Random {
    /// For a seed and what the numbers are for, such as the number of a pass.
    pub fn new(seed: u64, purpose: u64) -> Self {
        let mut numbers = SplitMix64::new(seed ^ purpose.wrapping_mul(0xd1b5_4a32_d192_ed03));
        numbers.next_number();
        Self(numbers)
    }

    /// A number below `end`, which is above 0.
    pub fn below(&mut self, end: usize) -> usize {
        self.0.below(end)
    }

    /// A number from a normal distribution of variance 1 (Box and Muller).
    pub fn normal(&mut self) -> f64 {
        let unit = |bits: u64| ((bits >> 11) as f64 + 0.5) / (1_u64 << 53) as f64;
        let (a, b) = (unit(self.0.next_number()), unit(self.0.next_number()));
        (-2.0 * a.ln()).sqrt() * (std::f64::consts::TAU * b).cos()
    }

    /// 0 to `count` in random order (Fisher and Yates).
    pub fn order(&mut self, count: usize) -> Vec<usize> {
        let mut order: Vec<usize> = (0..count).collect();
        for last in (1..count).rev() {
            order.swap(last, self.below(last + 1));
        }
        order
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_order_holds_each_number_once_and_depends_on_seed_and_purpose_only() {
        let order = |seed, purpose| Random::new(seed, purpose).order(100);
        let mut sorted = order(1, 2);
        assert_eq!(sorted, order(1, 2));
        assert!(sorted != order(1, 3) && sorted != order(2, 2));
        sorted.sort_unstable();
        assert_eq!(sorted, (0..100).collect::<Vec<_>>());
    }

    #[test]
    fn normal_numbers_have_mean_0_and_variance_1() {
        let mut random = Random::new(7, 0);
        let numbers: Vec<f64> = (0..20_000).map(|_| random.normal()).collect();
        let mean = numbers.iter().sum::<f64>() / 20_000.0;
        let variance = numbers.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / 20_000.0;
        assert!(mean.abs() < 0.03 && (variance - 1.0).abs() < 0.05, "{mean} {variance}");
    }
}
