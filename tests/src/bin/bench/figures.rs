//! Percentiles, tables and aims.

/// Cumulative counts by upper bound, seconds.
#[derive(Clone, Debug, Default)]
pub(crate) struct Histogram {
    buckets: Vec<(f64, u64)>,
}

impl Histogram {
    pub(crate) fn add(&mut self, bound: f64, count: u64) {
        self.buckets.push((bound, count));
        self.buckets.sort_by(|a, b| a.0.total_cmp(&b.0));
    }

    pub(crate) fn count(&self) -> u64 {
        self.buckets.last().map_or(0, |(_, count)| *count)
    }

    /// What came since `before`.
    pub(crate) fn since(&self, before: &Self) -> Self {
        let old = |bound: f64| before.buckets.iter().find(|it| it.0.total_cmp(&bound).is_eq()).map_or(0, |it| it.1);
        Self { buckets: self.buckets.iter().map(|(bound, count)| (*bound, count - old(*bound))).collect() }
    }

    /// Milliseconds below which this percentage is, in a straight line through the bucket.
    #[expect(clippy::cast_precision_loss, reason = "counts are small")]
    pub(crate) fn percentile(&self, percent: f64) -> Option<f64> {
        let wanted = self.count() as f64 * percent / 100.0;
        let mut lower = (0.0, 0.0);
        for (bound, count) in &self.buckets {
            let count = *count as f64;
            if count >= wanted && count > lower.1 {
                let part = (wanted - lower.1) / (count - lower.1);
                let seconds = if bound.is_finite() { lower.0 + (bound - lower.0) * part } else { f64::INFINITY };
                return Some(seconds * 1000.0);
            }
            lower = (*bound, count);
        }
        None
    }
}

/// Prints rows under a header, columns as wide as they must be.
pub(crate) fn table(header: &[&str], rows: &[Vec<String>]) {
    let line = |cells: Vec<&str>| {
        let width = |column: usize| {
            let cells = rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count());
            cells.chain([header[column].chars().count()]).max().unwrap_or_default()
        };
        let cells = cells.iter().enumerate().map(|(column, cell)| format!("{cell:>width$}", width = width(column)));
        println!("| {} |", cells.collect::<Vec<_>>().join(" | "));
    };
    line(header.to_vec());
    println!("|{}", " ---: |".repeat(header.len()));
    for row in rows {
        line(row.iter().map(String::as_str).collect());
    }
}

/// Prints whether `found` is as wanted.
pub(crate) fn aim(what: &str, found: &str, met: bool) {
    println!("{}  {what}: {found}", if met { "met   " } else { "MISSED" });
}
