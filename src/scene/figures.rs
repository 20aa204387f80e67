//! The node as metrics: the numbers of `bridge/health`, but for rates and percentiles, which Prometheus makes itself.

use super::{Camera, Now, Scene};
use crate::metrics::Figures;

impl Scene {
    /// The node at this moment. Changes nothing.
    #[must_use]
    pub fn figures(&self, now: Now) -> Figures {
        let mut cameras: Vec<_> = self.cameras.values().map(Camera::figures).collect();
        cameras.sort_by(|one, next| one.id.cmp(&next.id));
        let judge = &self.generations.current().facts;
        self.report.figures(now, &self.identity.node, judge, self.problems(now), cameras)
    }
}
