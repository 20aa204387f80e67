//! `samples prune`.

use super::{Faults, ids, usage};
use crate::cli::exit::Failure;
use crate::cli::print;
use crate::samples::{Entry, Store};
use clap::Args;
use std::collections::BTreeSet;
use std::time::Duration;

/// Arguments of `retinad samples prune`.
#[derive(Args)]
pub struct PruneArguments {
    /// Remove these, labelled or not
    ids: Vec<String>,
    /// Remove what was written longer ago, days
    #[arg(long, value_name = "DAYS")]
    older_than: Option<u32>,
    /// Remove the oldest until all take at most this, megabytes
    #[arg(long, value_name = "MB")]
    max_mb: Option<u64>,
    /// Remove all
    #[arg(long)]
    all: bool,
    /// With --older-than, --max-mb or --all: labelled ones, too
    #[arg(long)]
    labelled_too: bool,
    /// Only say what would be removed
    #[arg(long)]
    dry_run: bool,
}

/// Removes samples and says which.
pub fn prune(store: &Store, arguments: &PruneArguments) -> Result<(), Failure> {
    let named: BTreeSet<_> = ids(&arguments.ids)?.into_iter().collect();
    let by_rule = arguments.all || arguments.older_than.is_some() || arguments.max_mb.is_some();
    if named.is_empty() && !by_rule {
        return Err(usage("nothing to remove: name ids, or give --older-than, --max-mb or --all"));
    }
    let entries = store.entries()?;
    let mut faults = Faults::default();
    for id in &named {
        if !entries.iter().any(|entry| entry.id == *id) {
            faults.note(store.read(id));
        }
    }
    let mut left: u64 = entries.iter().map(|entry| entry.bytes).sum();
    let (mut removed, mut freed) = (0, 0);
    for entry in &entries {
        let wanted = named.contains(&entry.id)
            || (arguments.rule(entry, left) && (arguments.labelled_too || !is_labelled(store, entry)));
        if !wanted {
            continue;
        }
        if !arguments.dry_run && faults.note(store.remove(&entry.id)).is_none() {
            continue;
        }
        left -= entry.bytes;
        freed += entry.bytes;
        removed += 1;
        print::line(format_args!("{}", entry.id));
    }
    let megabytes = |bytes: u64| bytes as f64 / f64::from(1 << 20);
    let verb = if arguments.dry_run { "would be removed" } else { "removed" };
    let (freed, left) = (megabytes(freed), megabytes(left));
    print::line(format_args!("{removed} samples, {freed:.1} MB {verb}; {left:.1} MB left"));
    faults.into_result()
}

impl PruneArguments {
    /// Whether a rule removes it while all take so many bytes.
    fn rule(&self, entry: &Entry, bytes: u64) -> bool {
        let days = |days: u32| Duration::from_secs(u64::from(days) * 24 * 3600);
        self.all
            || self.older_than.is_some_and(|limit| entry.age > days(limit))
            || self.max_mb.is_some_and(|limit| bytes > limit << 20)
    }
}

/// One that cannot be read is nobody's.
fn is_labelled(store: &Store, entry: &Entry) -> bool {
    store.read(&entry.id).is_ok_and(|sample| sample.is_labelled())
}
