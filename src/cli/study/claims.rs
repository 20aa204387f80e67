//! What the paper claims, what would refute it, and what was found. The conditions stand here, in code, before
//! any number is computed.

use super::contest::{
    BALANCED, CE, Contest, FOCAL, NO_PRIOR, PAPER_ALPHA, PAPER_GAMMA, STAR_2_1, STAR_4_0, of_gamma,
};
use crate::retinanet::loss::Loss;
use crate::tuning::study::cumulative::Spread;
use crate::tuning::study::curves::{self, GAMMAS};
use crate::tuning::study::imbalance::{Course, Epoch, LOSSES};
use crate::tuning::study::trials::Measured;
use serde::Serialize;

/// What became of a claim.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// Its condition of refutation is not met, and the opposite would have been seen.
    Holds,
    /// Its condition of refutation is met.
    Refuted,
    /// The interval leaves both open.
    Undecided,
    /// Too few pictures, or the same ones for training and judging.
    NotJudged,
}

impl Verdict {
    fn of(holds: bool) -> Self {
        if holds { Self::Holds } else { Self::Refuted }
    }

    /// For people.
    pub fn words(self) -> &'static str {
        match self {
            Self::Holds => "holds",
            Self::Refuted => "refuted",
            Self::Undecided => "undecided",
            Self::NotJudged => "not judged",
        }
    }
}

/// A claim.
#[derive(Debug, Clone, Serialize)]
pub struct Claim {
    /// The figure or table.
    pub part: &'static str,
    /// What is claimed.
    pub claim: &'static str,
    /// What would refute it.
    pub refuted_if: &'static str,
    /// What was found.
    pub found: String,
    /// What that means.
    pub verdict: Verdict,
}

/// Epochs in which "early" is.
const EARLY: usize = 50;
/// Logits of figure 2's checks, evenly from −20 to 20.
const CHECKED: usize = 2001;
const WIDEST: f64 = 20.0;

/// Figure 1.
pub fn of_figure_1(courses: &[Course]) -> Vec<Claim> {
    let course = |ratio, loss: &str| {
        let found = courses.iter().find(|course| course.ratio == ratio && course.loss == loss);
        found.map_or(&[][..], |course| &course.epochs)
    };
    let rise = |epochs: &[Epoch]| {
        let worst = epochs.iter().take(EARLY).map(|epoch| epoch.rare).fold(0.0, f64::max);
        worst / epochs.first().map_or(1.0, |epoch| epoch.rare)
    };
    let fall = |epochs: &[Epoch]| epochs[20.min(epochs.len() - 1)].common / epochs[0].common;
    let rare = [10, 100, 1000].map(|ratio| course(ratio, LOSSES[0]));
    let (rises, falls) = (rare.map(rise), rare.map(fall));
    let share = |ratio| course(ratio, LOSSES[0])[0].common_share;
    let later = |loss| {
        let early = course(100, loss).iter().take(EARLY).skip(5).map(|epoch| epoch.common_share);
        early.sum::<f64>() / (EARLY - 5) as f64
    };
    let [plain, balanced, focal] = LOSSES.map(later);
    vec![
        Claim {
            part: "Figure 1",
            claim: "with 1:10 and beyond, the rare class's error rises early while the common one's falls",
            refuted_if: "at 1:10, 1:100 or 1:1000 the rare class's mean error never exceeds 1.3 times its first \
                         value within 50 epochs, or the common one's at epoch 20 is not below its first",
            found: format!(
                "the rare class's error rises {:.2}, {:.2} and {:.2} times; the common one's falls to {:.2}, {:.2} \
                 and {:.2} of its first",
                rises[0], rises[1], rises[2], falls[0], falls[1], falls[2]
            ),
            verdict: Verdict::of(rises.iter().all(|r| *r > 1.3) && falls.iter().all(|f| *f < 1.0)),
        },
        Claim {
            part: "Figure 1",
            claim: "the common class holds nearly all of the gradient",
            refuted_if: "its share in the first step is below 0.95 at 1:100 or below 0.99 at 1:1000",
            found: format!(
                "{:.3} at 1:1, {:.3} at 1:100, {:.4} at 1:1000",
                share(1),
                share(100),
                share(1000)
            ),
            verdict: Verdict::of(share(100) >= 0.95 && share(1000) >= 0.99),
        },
        Claim {
            part: "Figure 1",
            claim: "balanced CE and FL leave less of the gradient to the common class",
            refuted_if: "at 1:100, its mean share over epochs 5 to 50 with either is not below that with CE",
            found: format!("CE {plain:.3}, balanced CE {balanced:.3}, FL {focal:.3}"),
            verdict: Verdict::of(balanced < plain && focal < plain),
        },
    ]
}

/// Figure 2 and table 2.
pub fn of_losses() -> Vec<Claim> {
    let focal = |gamma| curves::curve(Loss::Focal { alpha: None, gamma }, WIDEST, CHECKED);
    let plain = curves::curve(Loss::CrossEntropy, WIDEST, CHECKED);
    let differing = plain.iter().zip(focal(0.0)).filter(|(a, b)| **a != *b).count();
    let more = GAMMAS.windows(2).all(|pair| {
        let (less, more) = (focal(pair[0]), focal(pair[1]));
        less.iter().zip(&more).all(|(less, more)| more.loss < less.loss)
    });
    let (easy, easier) = (curves::factor(2.0, 0.9, true), curves::factor(2.0, 0.968, true));
    let hard = plain.iter().zip(focal(2.0)).filter(|(plain, _)| plain.p_t <= 0.5);
    let most = hard.map(|(plain, focal)| plain.loss / focal.loss).fold(0.0, f64::max);
    let star = |gamma, beta| {
        let curve = curves::curve(Loss::FocalStar { alpha: None, gamma, beta }, WIDEST, CHECKED);
        let easy = curve.iter().filter(|point| point.x_t >= 2.0).map(|point| point.slope.abs());
        let hard = curve.iter().filter(|point| point.x_t <= -3.0).map(|point| point.slope.abs());
        (easy.fold(0.0, f64::max), hard.fold(1.0, f64::min))
    };
    let stars = [star(2.0, 1.0), star(4.0, 0.0)];
    let rows = curves::table_2(2.0, 0.05, 0.95);
    let agree = |row: &&curves::Row| (row.truth > 0) == (row.p > 0.5);
    let low = rows.iter().filter(agree).map(|row| row.factor).fold(0.0, f64::max);
    let high = rows.iter().filter(|row| !agree(row)).map(|row| row.factor).fold(1.0, f64::min);
    vec![
        Claim {
            part: "Figure 2",
            claim: "with γ 0, focal loss is cross entropy",
            refuted_if: "loss or derivative differ in any bit at any of 2001 logits from −20 to 20",
            found: format!("{differing} of {CHECKED} differ"),
            verdict: Verdict::of(differing == 0),
        },
        Claim {
            part: "Figure 2",
            claim: "more γ is less loss everywhere",
            refuted_if: "at any of these logits, the next γ of 0, 0.5, 1, 2, 5 has a loss that is not smaller",
            found: if more { "smaller at all of them" } else { "not smaller at some" }.into(),
            verdict: Verdict::of(more),
        },
        Claim {
            part: "Figure 2",
            claim: "with γ 2, an example at p_t 0.9 has 100 times less loss than with CE, at 0.968 about 1000 \
                    times, and one with p_t up to 0.5 at most 4 times less",
            refuted_if: "the factor at 0.9 is not 1/100 to 1e-12, that at 0.968 not within a tenth of 1/1000, or \
                         CE exceeds FL more than 4 times at p_t ≤ 0.5",
            found: format!("1/{:.4}, 1/{:.0}, at most {most:.4} times", 1.0 / easy, 1.0 / easier),
            verdict: Verdict::of(
                (easy - 0.01).abs() < 1e-12 && (easier - 1e-3).abs() < 1e-4 && most <= 4.0 + 1e-9,
            ),
        },
        Claim {
            part: "Figure 2",
            claim: "the derivatives of FL* (2, 1) and FL* (4, 0) die out for what is well told, as those of FL do",
            refuted_if: "one exceeds 0.01 in size at x_t ≥ 2, or is below 0.99 at x_t ≤ −3",
            found: format!(
                "at most {:.4} and {:.4}; at least {:.4} and {:.4}",
                stars[0].0, stars[1].0, stars[0].1, stars[1].1
            ),
            verdict: Verdict::of(stars.iter().all(|(easy, hard)| *easy <= 0.01 && *hard >= 0.99)),
        },
        Claim {
            part: "Table 2",
            claim: "the factor (1 − p_t)^γ falls only where probability and truth agree",
            refuted_if: "with γ 2, at p 0.95 with y = +1 or p 0.05 with y = −1 it is above 0.01, or at one of \
                         the other two below 0.9",
            found: format!("at most {low:.4} where they agree, at least {high:.4} where they do not"),
            verdict: Verdict::of(low <= 0.01 && high >= 0.9),
        },
    ]
}

/// Figure 3; nothing without positives.
pub fn of_figure_3(positives: &[Spread], negatives: &[Spread]) -> Vec<Claim> {
    let distance = |spreads: &[Spread]| spreads[0].distance(&spreads[spreads.len() - 1]);
    let (of_positives, of_negatives) = (distance(positives), distance(negatives));
    let half = positives[0].hardest_20;
    let tops: Vec<f64> = negatives.iter().map(|spread| spread.hardest_1).collect();
    let told: Vec<String> = tops.iter().map(|top| format!("{top:.3}")).collect();
    vec![
        Claim {
            part: "Figure 3",
            claim: "the hardest fifth of the positives holds about half of their loss",
            refuted_if: "with γ 0 it holds less than 0.35 or more than 0.65",
            found: format!("{half:.3}"),
            verdict: Verdict::of((0.35..=0.65).contains(&half)),
        },
        Claim {
            part: "Figure 3",
            claim: "γ changes the spread over positives little and that over negatives much",
            refuted_if: "the curves of γ 0 and γ 2 are at their furthest not twice as far apart for negatives as \
                         for positives",
            found: format!("{of_positives:.3} for positives, {of_negatives:.3} for negatives"),
            verdict: Verdict::of(of_negatives >= 2.0 * of_positives),
        },
        Claim {
            part: "Figure 3",
            claim: "the hardest 1 % of the negatives hold ever more of their loss with γ",
            refuted_if: "that share does not rise with each γ of 0, 0.5, 1, 2",
            found: told.join(", "),
            verdict: Verdict::of(tops.windows(2).all(|pair| pair[0] < pair[1])),
        },
    ]
}

/// Table 3 and the sweeps; `judged` is whether there are pictures enough.
pub fn of_table_3(contest: &Contest, judged: bool) -> Vec<Claim> {
    let focal = contest.difference(FOCAL, BALANCED);
    let balanced = contest.difference(BALANCED, CE);
    let alphas = PAPER_ALPHA.map(|(alpha, _)| contest.of_loss(Loss::Balanced { alpha }));
    let gammas = PAPER_GAMMA.map(|(gamma, alpha, _)| contest.of_loss(of_gamma(gamma, alpha)));
    let mut claims = vec![
        Claim {
            part: "Table 3",
            claim: "FL (γ 2, α 0.25) is above balanced CE (α 0.75) ([P]: 34.0 and 31.1)",
            refuted_if: "the interval of the difference lies below 0; undecided if it holds 0",
            found: told(focal),
            verdict: above(focal),
        },
        Claim {
            part: "Table 3",
            claim: "balanced CE (α 0.75) is above plain CE ([P]: 31.1 and 30.2)",
            refuted_if: "the interval of the difference lies below 0; undecided if it holds 0",
            found: told(balanced),
            verdict: above(balanced),
        },
    ];
    for (star, claim) in [
        (STAR_2_1, "FL* (γ 2, β 1) is within noise of FL ([P]: 33.8 and 34.0)"),
        (STAR_4_0, "FL* (γ 4, β 0) is within noise of FL ([P]: 33.9 and 34.0)"),
    ] {
        let difference = contest.difference(star, FOCAL);
        let refuted_if = "the interval of the difference does not hold 0";
        let holds = difference.and_then(|difference| difference.interval);
        let verdict = holds
            .map_or(Verdict::Undecided, |interval| Verdict::of(interval.low <= 0.0 && interval.high >= 0.0));
        claims.push(Claim { part: "Table 3", claim, refuted_if, found: told(difference), verdict });
    }
    claims.push(without_prior(contest));
    let alpha = contest.of_loss(Loss::Balanced { alpha: 0.75 });
    claims.push(best_of(contest, "α sweep", "of balanced CE, α 0.75 is best", &alphas, alpha));
    claims.push(best_of(contest, "γ sweep", "of FL, γ 2 with α 0.25 is best", &gammas, FOCAL));
    if !judged {
        claims.iter_mut().for_each(|claim| claim.verdict = Verdict::NotJudged);
    }
    claims
}

fn without_prior(contest: &Contest) -> Claim {
    let (with, without) = (&contest.outcomes[CE], &contest.outcomes[NO_PRIOR]);
    let ap = |outcome: &super::contest::Outcome| outcome.ap.map_or(0.0, |ap| ap.value);
    let tried = without.tried.iter().filter(|(_, ap)| ap.is_none()).count();
    let failed = without.diverged > 0 || ap(without) < 0.5 * ap(with);
    Claim {
        part: "Table 3",
        claim: "CE without the prior does not train",
        refuted_if: "at its best rate no training diverges, and its AP is at least half of that with the prior",
        found: format!(
            "AP {} without, {} with it; {} of {} trainings diverged at its best rate, {tried} of {} rates tried",
            points(ap(without)),
            points(ap(with)),
            without.diverged,
            without.trainings,
            without.tried.len()
        ),
        verdict: Verdict::of(failed),
    }
}

fn best_of(
    contest: &Contest,
    part: &'static str,
    claim: &'static str,
    of: &[usize],
    claimed: usize,
) -> Claim {
    let value = |entry: usize| contest.outcomes[entry].aps.first().copied().unwrap_or(0.0);
    let best = of.iter().copied().max_by(|a, b| value(*a).total_cmp(&value(*b))).unwrap_or(claimed);
    let refuted_if = "another is best, and the interval of its lead over the one named lies above 0 (one training \
                      each: the interval is over pictures alone)";
    let name = &contest.outcomes[best].name;
    if best == claimed {
        return Claim { part, claim, refuted_if, found: format!("{name} is best"), verdict: Verdict::Holds };
    }
    let lead = contest.difference_of_first(best, claimed);
    let beyond = lead.and_then(|lead| lead.interval).is_some_and(|interval| interval.low > 0.0);
    let verdict = if beyond { Verdict::Refuted } else { Verdict::Undecided };
    Claim { part, claim, refuted_if, found: format!("{name} leads by {}", told(lead)), verdict }
}

fn above(difference: Option<Measured>) -> Verdict {
    match difference.and_then(|difference| difference.interval) {
        Some(interval) if interval.low > 0.0 => Verdict::Holds,
        Some(interval) if interval.high < 0.0 => Verdict::Refuted,
        _ => Verdict::Undecided,
    }
}

/// A difference of AP in points.
fn told(difference: Option<Measured>) -> String {
    let Some(Measured { value, interval }) = difference else { return "nothing to compare".into() };
    let interval = interval.map_or_else(String::new, |interval| {
        format!(" ({:+.1} to {:+.1})", 100.0 * interval.low, 100.0 * interval.high)
    });
    format!("{:+.1}{interval} points of AP", 100.0 * value)
}

/// AP as papers print it.
pub fn points(ap: f64) -> String {
    format!("{:.1}", 100.0 * ap)
}
