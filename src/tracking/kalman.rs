//! A Kalman filter of one coordinate that moves at a rate which slowly forgets itself.
//!
//! Over short times this is the model of constant velocity of SORT. Over long ones the rate decays (an
//! integrated Ornstein-Uhlenbeck process, known from radar as a model of manoeuvres after Singer 1970):
//! nobody walks on straight for five seconds unseen, and the uncertainty then grows with the square root of
//! time instead of its cube. The step is exact for any length, so frames may come as irregularly as they
//! like. Centre and size are four such coordinates; SORT's matrices of noise are diagonal, so nothing is lost
//! by treating them apart.

/// How a coordinate may move.
#[derive(Debug, Clone, Copy)]
pub(super) struct Motion {
    /// Standard deviation of the rate, units a second.
    pub spread: f64,
    /// Seconds after which a rate has lost two thirds of itself.
    pub memory: f64,
}

/// One coordinate with its rate and their covariance.
#[derive(Debug, Clone, Copy)]
pub(super) struct Axis {
    /// Where it is, in units.
    pub value: f64,
    /// Units a second.
    pub rate: f64,
    value_variance: f64,
    covariance: f64,
    rate_variance: f64,
}

impl Axis {
    /// Measured once, with this standard deviation; the rate is as likely as the motion says.
    pub fn new(value: f64, noise: f64, motion: Motion) -> Self {
        Self {
            value,
            rate: 0.0,
            value_variance: noise * noise,
            covariance: 0.0,
            rate_variance: motion.spread * motion.spread,
        }
    }

    /// Lets `seconds` pass, at least 0.
    pub fn predict(&mut self, seconds: f64, motion: Motion) {
        let steps = seconds / motion.memory;
        let kept = (-steps).exp();
        let reach = motion.memory * (1.0 - kept);
        let spread = motion.spread * motion.spread;
        self.value += self.rate * reach;
        self.rate *= kept;
        self.value_variance += reach * (2.0 * self.covariance + reach * self.rate_variance);
        self.covariance = kept * (self.covariance + reach * self.rate_variance);
        self.rate_variance *= kept * kept;
        // What the rate did meanwhile, of itself. The bracket is 2/3 steps^3 where steps are small.
        let wander = (2.0 * steps - 3.0 + 4.0 * kept - kept * kept).max(0.0);
        self.value_variance += spread * motion.memory * motion.memory * wander;
        self.covariance += spread * motion.memory * (1.0 - kept) * (1.0 - kept);
        self.rate_variance += spread * (1.0 - kept * kept);
    }

    /// The variance of a measurement's distance from here, if it has this standard deviation.
    pub fn innovation_variance(&self, noise: f64) -> f64 {
        self.value_variance + noise * noise
    }

    /// Takes a measurement in.
    pub fn correct(&mut self, measured: f64, noise: f64) {
        let variance = self.innovation_variance(noise);
        let gain = self.value_variance / variance;
        let rate_gain = self.covariance / variance;
        let distance = measured - self.value;
        self.value += gain * distance;
        self.rate += rate_gain * distance;
        self.rate_variance = (self.rate_variance - rate_gain * self.covariance).max(0.0);
        self.covariance *= 1.0 - gain;
        self.value_variance *= 1.0 - gain;
    }

    /// Moves and stretches the coordinate's unit: `value * scale + offset`.
    pub fn carry(&mut self, scale: f64, offset: f64) {
        self.value = self.value * scale + offset;
        self.rate *= scale;
        let square = scale * scale;
        self.value_variance *= square;
        self.covariance *= square;
        self.rate_variance *= square;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WALK: Motion = Motion { spread: 50.0, memory: 2.0 };

    fn close(a: f64, b: f64) -> bool {
        (a - b).abs() <= 1e-9 * a.abs().max(b.abs()).max(1.0)
    }

    #[test]
    fn two_short_steps_are_one_long_step() {
        let mut once = Axis::new(10.0, 3.0, WALK);
        once.correct(14.0, 2.0);
        let mut twice = once;
        once.predict(0.9, WALK);
        twice.predict(0.2, WALK);
        twice.predict(0.7, WALK);
        assert!(close(once.value, twice.value) && close(once.rate, twice.rate));
        assert!(close(once.value_variance, twice.value_variance));
        assert!(close(once.covariance, twice.covariance));
        assert!(close(once.rate_variance, twice.rate_variance));
    }

    #[test]
    fn the_speed_of_a_steady_walk_is_learned_from_irregular_frames() {
        let mut axis = Axis::new(0.0, 2.0, WALK);
        let mut time = 0.0;
        for step in [0.5, 0.1, 0.9, 0.3, 0.5, 0.2, 0.5] {
            time += step;
            axis.predict(step, WALK);
            axis.correct(40.0 * time, 2.0);
        }
        assert!((axis.rate - 40.0).abs() < 8.0, "{}", axis.rate);
        assert!((axis.value - 40.0 * time).abs() < 2.0, "{}", axis.value);
    }

    #[test]
    fn the_rate_stays_as_uncertain_as_its_motion_and_the_place_spreads_without_end() {
        let mut axis = Axis::new(0.0, 1.0, WALK);
        let mut before = axis.value_variance;
        for _ in 0..100 {
            axis.predict(1.0, WALK);
            assert!(close(axis.rate_variance, 2500.0), "{}", axis.rate_variance);
            assert!(axis.value_variance > before);
            before = axis.value_variance;
        }
    }

    #[test]
    fn no_time_changes_nothing() {
        let before = Axis::new(5.0, 1.0, WALK);
        let mut after = before;
        after.predict(0.0, WALK);
        assert!(close(before.value, after.value) && close(before.value_variance, after.value_variance));
    }
}
