//! Interleaved rounds: every case of a group is measured in turn, so that what disturbs the machine disturbs all of them.

use std::time::Instant;

/// Cases that are compared with the first.
pub struct Group<'a> {
    title: String,
    cases: Vec<Case<'a>>,
}

struct Case<'a> {
    name: String,
    run: Box<dyn FnMut(u64) + 'a>,
}

impl<'a> Group<'a> {
    pub fn new(title: impl Into<String>) -> Self {
        Group { title: title.into(), cases: Vec::new() }
    }

    /// A case: does its work as many times as it is told. With words on the command line, those that hold one of them
    /// in their group's or their own name are measured; the first of a group always is.
    pub fn case(mut self, name: impl Into<String>, run: impl FnMut(u64) + 'a) -> Self {
        let name = name.into();
        let mut words = std::env::args().skip(1).filter(|word| !word.starts_with('-')).peekable();
        let wanted = words.peek().is_none() || words.any(|word| name.contains(&word) || self.title.contains(&word));
        if wanted || self.cases.is_empty() {
            self.cases.push(Case { name, run: Box::new(run) });
        }
        self
    }

    /// Measures and prints a row a case: the median of the rounds, in nanoseconds, which is the answer too, and its ratio to
    /// the first case's.
    pub fn measure(mut self, rounds: usize, millis: f64) -> Vec<f64> {
        println!("\n{}", self.title);
        let counts: Vec<u64> = self.cases.iter_mut().map(|case| calibrate(case, millis)).collect();
        let mut nanos = vec![Vec::with_capacity(rounds); self.cases.len()];
        for _ in 0..rounds {
            for (index, case) in self.cases.iter_mut().enumerate() {
                nanos[index].push(time(case, counts[index]) * 1e9 / counts[index] as f64);
            }
        }
        let medians: Vec<f64> = nanos.iter_mut().map(|n| median(n)).collect();
        for (case, each) in self.cases.iter().zip(&medians) {
            println!("  {:<62} {:>11.0} ns   x {:.2}", case.name, each, each / medians[0]);
        }
        medians
    }
}

/// How often a case runs in `millis`, found by doubling; the least of three, because the first runs are cold and any can
/// be interrupted.
fn calibrate(case: &mut Case<'_>, millis: f64) -> u64 {
    let mut count = 1;
    loop {
        let took = (0..3).map(|_| time(case, count) * 1e3).fold(f64::MAX, f64::min);
        if took > millis / 4.0 {
            return ((count as f64 * millis / took) as u64).max(1);
        }
        count *= 2;
    }
}

fn time(case: &mut Case<'_>, count: u64) -> f64 {
    let start = Instant::now();
    (case.run)(count);
    start.elapsed().as_secs_f64()
}

pub fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
