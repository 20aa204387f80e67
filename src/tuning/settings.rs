//! How a training runs.

use super::TuningError;

/// How a training runs. [`Settings::default`] has the values that were measured (`docs/learning.md`).
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct Settings {
    /// Passes over the pictures, 1 to 1000.
    pub passes: u32,
    /// Pictures of an update, 1 to 64.
    pub pictures_per_update: usize,
    /// Cells of the reference set that each picture brings along, 0 to 4096.
    pub replay_per_picture: usize,
    /// Highest learning rate, above 0 and at most 10.
    pub learning_rate: f64,
    /// Share of the last step in the next, 0 to below 1.
    pub momentum: f64,
    /// Pull of weights towards 0, 0 to 0.1; biases are not pulled.
    pub weight_decay: f64,
    /// Share of the updates in which the learning rate rises, 0 to 0.5; then it falls as half a cosine.
    pub warm_up: f64,
    /// Classes whose outputs are trained; the others keep their bytes. Empty: all.
    pub classes: Vec<usize>,
    /// Seed of every order.
    pub seed: u64,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            passes: 20,
            pictures_per_update: 4,
            replay_per_picture: 256,
            learning_rate: 0.01,
            momentum: 0.9,
            weight_decay: 1e-4,
            warm_up: 0.05,
            classes: Vec::new(),
            seed: 0,
        }
    }
}

impl Settings {
    /// Checks every range; classes must be below `classes`.
    ///
    /// # Errors
    /// [`TuningError::Setting`] for the first that does not hold.
    pub fn check(&self, classes: usize) -> Result<(), TuningError> {
        let require = |key, holds: bool, found: String, allowed: &str| {
            let reason = format!("{found}, must be {allowed}");
            if holds { Ok(()) } else { Err(TuningError::Setting { key, reason }) }
        };
        let Self { passes, pictures_per_update: pictures, replay_per_picture: replay, .. } = self;
        require("passes", (1..=1000).contains(passes), passes.to_string(), "1 to 1000")?;
        require("pictures_per_update", (1..=64).contains(pictures), pictures.to_string(), "1 to 64")?;
        require("replay_per_picture", *replay <= 4096, replay.to_string(), "0 to 4096")?;
        let (rate, momentum) = (self.learning_rate, self.momentum);
        require("learning_rate", rate > 0.0 && rate <= 10.0, rate.to_string(), "above 0 and at most 10")?;
        require("momentum", (0.0..1.0).contains(&momentum), momentum.to_string(), "0 to below 1")?;
        let (decay, warm_up) = (self.weight_decay, self.warm_up);
        require("weight_decay", (0.0..=0.1).contains(&decay), decay.to_string(), "0 to 0.1")?;
        require("warm_up", (0.0..=0.5).contains(&warm_up), warm_up.to_string(), "0 to 0.5")?;
        for class in &self.classes {
            require("classes", *class < classes, class.to_string(), &format!("below {classes}"))?;
        }
        Ok(())
    }

    /// The learning rate of update `update` of `updates`, both from 0.
    #[must_use]
    pub fn rate(&self, update: u64, updates: u64) -> f64 {
        let (update, updates) = (update as f64, updates.max(1) as f64);
        let rising = (self.warm_up * updates).floor();
        if update < rising {
            return self.learning_rate * (update + 1.0) / rising;
        }
        let done = (update - rising) / (updates - rising);
        self.learning_rate * 0.5 * (1.0 + (std::f64::consts::PI * done).cos())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_rises_then_falls_to_almost_nothing() {
        let settings = Settings { warm_up: 0.1, learning_rate: 2.0, ..Settings::default() };
        let rates: Vec<f64> = (0..100).map(|update| settings.rate(update, 100)).collect();
        assert!((rates[0] - 0.2).abs() < 1e-12 && rates[9] == 2.0 && rates[10] == 2.0);
        assert!(rates[..10].is_sorted() && rates[10..].iter().rev().is_sorted() && rates[99] < 0.01);
        let steady = Settings { warm_up: 0.0, ..Settings::default() };
        assert_eq!(steady.rate(0, 1), steady.learning_rate);
    }

    #[test]
    fn a_value_out_of_range_is_refused_by_name() {
        type Fault = fn(&mut Settings);
        let faults: [(&str, Fault); 6] = [
            ("passes: 0, must be 1 to 1000", |s| s.passes = 0),
            ("pictures_per_update: 65, must be 1 to 64", |s| s.pictures_per_update = 65),
            ("learning_rate: NaN, must be above 0 and at most 10", |s| s.learning_rate = f64::NAN),
            ("momentum: 1, must be 0 to below 1", |s| s.momentum = 1.0),
            ("warm_up: -0.1, must be 0 to 0.5", |s| s.warm_up = -0.1),
            ("classes: 21, must be below 21", |s| s.classes = vec![20, 21]),
        ];
        Settings::default().check(21).expect("the default holds");
        for (line, fault) in faults {
            let mut settings = Settings::default();
            fault(&mut settings);
            assert_eq!(settings.check(21).expect_err("refused").to_string(), line);
        }
    }
}
