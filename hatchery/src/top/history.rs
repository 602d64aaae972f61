//! What an application did in the last minutes.

use std::collections::VecDeque;

/// Looks that are kept: three minutes, at one a second.
const KEPT: usize = 180;
const BARS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
const NOTHING: char = '·';

#[derive(Debug, Default)]
pub(super) struct History {
    /// Requests a second.
    rates: VecDeque<f64>,
    queue: VecDeque<f64>,
    /// Of one processor.
    cpu_percent: f64,
    last: Option<Figures>,
}

/// What only grows, at a moment: seconds since some beginning.
#[derive(Clone, Copy, Debug)]
pub(super) struct Figures {
    pub(super) at: f64,
    pub(super) served: u64,
    pub(super) cpu_s: f64,
}

impl History {
    pub(super) fn push(&mut self, now: Figures, waiting: u32) {
        if let Some(last) = self.last {
            let seconds = (now.at - last.at).max(0.001);
            // With a new core, figures begin anew: they don't shrink.
            add(&mut self.rates, now.served.saturating_sub(last.served) as f64 / seconds);
            self.cpu_percent = ((now.cpu_s - last.cpu_s).max(0.0) / seconds) * 100.0;
        }
        add(&mut self.queue, waiting.into());
        self.last = Some(now);
    }

    /// Requests a second, now.
    pub(super) fn rate(&self) -> f64 {
        self.rates.back().copied().unwrap_or_default()
    }

    pub(super) fn cpu_percent(&self) -> f64 {
        self.cpu_percent
    }

    /// The last `looks` in so many columns.
    pub(super) fn rates(&self, width: usize, looks: usize) -> String {
        spark(&self.rates, width, looks)
    }

    pub(super) fn queue(&self, width: usize, looks: usize) -> String {
        spark(&self.queue, width, looks)
    }

    pub(super) fn highest_rate(&self) -> f64 {
        self.rates.iter().copied().fold(0.0, f64::max)
    }

    pub(super) fn longest_queue(&self) -> f64 {
        self.queue.iter().copied().fold(0.0, f64::max)
    }
}

fn add(values: &mut VecDeque<f64>, value: f64) {
    if values.len() == KEPT {
        values.pop_front();
    }
    values.push_back(value);
}

/// The newest at the right. A column shows the highest of its looks, so that no peak is lost.
fn spark(values: &VecDeque<f64>, width: usize, looks: usize) -> String {
    let shown: Vec<f64> = values.iter().rev().take(looks).copied().collect();
    let highest = shown.iter().copied().fold(1.0, f64::max);
    let each = looks.div_ceil(width.max(1)).max(1);
    let columns: Vec<char> = shown
        .chunks(each)
        .take(width)
        .map(|looks| {
            let value = looks.iter().copied().fold(0.0, f64::max);
            match (value / highest * BARS.len() as f64).ceil() as usize {
                0 => NOTHING,
                height => BARS[height.min(BARS.len()) - 1],
            }
        })
        .collect();
    std::iter::repeat_n(' ', width.saturating_sub(columns.len())).chain(columns.into_iter().rev()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_differences_and_a_new_core_is_no_fall() {
        let mut history = History::default();
        for (at, served, cpu_s) in [(0.0, 100, 1.0), (2.0, 120, 2.0), (3.0, 5, 0.1)] {
            history.push(Figures { at, served, cpu_s }, 0);
            assert!(history.rate() >= 0.0 && history.cpu_percent() >= 0.0);
        }
        let mut history = History::default();
        history.push(Figures { at: 0.0, served: 100, cpu_s: 1.0 }, 0);
        assert_eq!((history.rate(), history.cpu_percent()), (0.0, 0.0));
        history.push(Figures { at: 2.0, served: 120, cpu_s: 2.0 }, 3);
        assert_eq!((history.rate(), history.cpu_percent(), history.longest_queue()), (10.0, 50.0, 3.0));
    }

    #[test]
    fn the_newest_stands_at_the_right_and_peaks_are_kept() {
        let values: VecDeque<f64> = [0.0, 8.0, 4.0, 0.0, 1.0].into();
        assert_eq!(spark(&values, 5, 5), "·█▄·▁");
        assert_eq!(spark(&values, 8, 8), "   ·█▄·▁");
        assert_eq!(spark(&values, 2, 4), "█▁");
        assert_eq!(spark(&VecDeque::new(), 3, 3), "   ");
        assert_eq!(spark(&values, 0, 3), "");
    }

    #[test]
    fn what_is_kept_is_bounded() {
        let mut history = History::default();
        for second in 0..1000_u32 {
            history.push(Figures { at: second.into(), served: second.into(), cpu_s: 0.0 }, second);
        }
        assert_eq!((history.rates.len(), history.queue.len()), (KEPT, KEPT));
    }
}
