//! What the web server has counted: each answered request once, by application and status, and how long it took.

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};
use hyper::{Response, StatusCode};
use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

/// Upper ends of the buckets, in seconds; one more is for all beyond.
pub(crate) const BOUNDS: [f64; 16] =
    [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0];
/// An application invents its statuses; more than this are counted as one.
const STATUSES: usize = 64;

/// The figures of all applications that requests came for.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    apps: RwLock<HashMap<Arc<PathBuf>, Arc<Counts>>>,
    /// Of requests for which there was no application.
    nowhere: Arc<Counts>,
}

#[derive(Debug, Default)]
pub(crate) struct Counts(Mutex<Figures>);

/// The figures of one application.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Figures {
    pub(crate) statuses: BTreeMap<u16, u64>,
    /// Answers with other statuses than those.
    pub(crate) other: u64,
    /// Requests that are being answered.
    pub(crate) open: u64,
    pub(crate) times: Times,
}

/// How long answers took, to the end of their bodies.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Times {
    /// In each bucket alone.
    pub(crate) counts: [u64; BOUNDS.len() + 1],
    pub(crate) sum: Duration,
}

impl Tally {
    /// The figures of the app at this root; `None`: of no app.
    pub(crate) fn of(&self, root: Option<&Arc<PathBuf>>) -> Arc<Counts> {
        let Some(root) = root else { return self.nowhere.clone() };
        if let Some(counts) = self.apps.read().unwrap_or_else(PoisonError::into_inner).get(root) {
            return counts.clone();
        }
        self.apps.write().unwrap_or_else(PoisonError::into_inner).entry(root.clone()).or_default().clone()
    }

    /// All figures. Those of applications that are not `served` any more are forgotten.
    pub(crate) fn figures(&self, served: impl Fn(&PathBuf) -> bool) -> Vec<(Option<Arc<PathBuf>>, Figures)> {
        let mut apps = self.apps.write().unwrap_or_else(PoisonError::into_inner);
        apps.retain(|root, counts| served(root) || counts.lock().open > 0);
        let known = apps.iter().map(|(root, counts)| (Some(root.clone()), counts.lock().clone()));
        known.chain([(None, self.nowhere.lock().clone())]).collect()
    }
}

impl Counts {
    fn lock(&self) -> MutexGuard<'_, Figures> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A request that came in at `begun`.
    pub(crate) fn begin(self: Arc<Self>, begun: Instant) -> Open {
        self.lock().open += 1;
        Open { counts: self, begun, answered: false }
    }
}

impl Figures {
    /// Answers so far.
    pub(crate) fn requests(&self) -> u64 {
        self.statuses.values().sum::<u64>() + self.other
    }

    /// Those of another app of the same name.
    pub(crate) fn add(&mut self, other: &Self) {
        for (status, count) in &other.statuses {
            *self.statuses.entry(*status).or_default() += count;
        }
        self.other += other.other;
        self.open += other.open;
        self.times.counts.iter_mut().zip(other.times.counts).for_each(|(own, more)| *own += more);
        self.times.sum += other.times.sum;
    }

    fn count(&mut self, status: u16) {
        let room = self.statuses.len() < STATUSES;
        match self.statuses.get_mut(&status) {
            Some(count) => *count += 1,
            None if room => drop(self.statuses.insert(status, 1)),
            None => self.other += 1,
        }
    }
}

impl Times {
    fn observe(&mut self, time: Duration) {
        self.counts[BOUNDS.partition_point(|bound| *bound < time.as_secs_f64())] += 1;
        self.sum += time;
    }

    /// Within how many seconds this share of those since `earlier` was answered, as far as the buckets tell.
    /// `None`: there were none.
    pub(crate) fn quantile_since(&self, earlier: &Self, share: f64) -> Option<f64> {
        let counts = self.counts.iter().zip(earlier.counts).map(|(now, then)| now.saturating_sub(then));
        let counts: Vec<u64> = counts.collect();
        let total: u64 = counts.iter().sum();
        if total == 0 {
            return None;
        }
        let rank = share * total as f64;
        let mut below = 0.0;
        for (index, count) in counts.iter().enumerate() {
            let (count, lower) = (*count as f64, if index == 0 { 0.0 } else { BOUNDS[index - 1] });
            if below + count >= rank && count > 0.0 {
                let Some(upper) = BOUNDS.get(index) else { return Some(lower) };
                return Some(lower + (upper - lower) * (rank - below) / count);
            }
            below += count;
        }
        BOUNDS.last().copied()
    }
}

/// A request that is being answered, until the end of its answer's body, or until its client has gone.
#[derive(Debug)]
pub(crate) struct Open {
    counts: Arc<Counts>,
    begun: Instant,
    answered: bool,
}

impl Open {
    /// The answer has begun: this is what counts, whatever becomes of it.
    pub(crate) fn answered(mut self, status: StatusCode) -> Self {
        self.answered = true;
        self.counts.lock().count(status.as_u16());
        self
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        let mut figures = self.counts.lock();
        figures.open -= 1;
        if self.answered {
            figures.times.observe(self.begun.elapsed());
        }
    }
}

/// An answer's body, whose end is the end of its request.
#[derive(Debug)]
pub(crate) struct Counted<B> {
    body: B,
    /// For its end.
    _open: Open,
}

impl<B> Counted<B> {
    pub(crate) fn answer(answer: Response<B>, open: Open) -> Response<Self> {
        let open = open.answered(answer.status());
        answer.map(|body| Self { body, _open: open })
    }
}

impl<B: Body<Data = Bytes> + Unpin> Body for Counted<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answered_request_is_counted_once_and_one_whose_client_left_is_not() {
        let tally = Tally::default();
        let root = Arc::new(PathBuf::from("/srv/shop"));
        let open = tally.of(Some(&root)).begin(Instant::now());
        drop(tally.of(Some(&root)).begin(Instant::now()));
        drop(tally.of(None).begin(Instant::now()).answered(StatusCode::NOT_FOUND));
        let open = open.answered(StatusCode::OK);
        let figures = |root: Option<&Arc<PathBuf>>| tally.of(root).lock().clone();
        let before = figures(Some(&root));
        assert_eq!((before.statuses, before.open), (BTreeMap::from([(200, 1)]), 1));
        drop(open);
        let after = figures(Some(&root));
        assert_eq!((after.requests(), after.open, after.times.counts.iter().sum::<u64>()), (1, 0, 1));
        assert_eq!(figures(None).statuses, BTreeMap::from([(404, 1)]));
    }

    #[test]
    fn statuses_that_an_app_invents_are_bounded_and_no_answer_is_lost() {
        let mut figures = Figures::default();
        (100..1000).for_each(|status| figures.count(status));
        figures.count(100);
        assert_eq!((figures.statuses.len(), figures.requests()), (STATUSES, 901));
    }

    #[test]
    fn what_is_served_no_more_is_forgotten_once_its_requests_have_ended() {
        let tally = Tally::default();
        let (shop, blog) = (Arc::new(PathBuf::from("/shop")), Arc::new(PathBuf::from("/blog")));
        tally.of(Some(&shop));
        let open = tally.of(Some(&blog)).begin(Instant::now());
        let names = |figures: Vec<(Option<Arc<PathBuf>>, Figures)>| figures.len();
        assert_eq!(names(tally.figures(|root| root.ends_with("shop"))), 3);
        drop(open);
        assert_eq!(names(tally.figures(|root| root.ends_with("shop"))), 2);
    }

    #[test]
    fn a_quantile_lies_in_its_bucket() {
        let (mut times, earlier) = (Times::default(), Times::default());
        assert_eq!(times.quantile_since(&earlier, 0.5), None);
        (0..90).for_each(|_| times.observe(Duration::from_millis(7)));
        (0..10).for_each(|_| times.observe(Duration::from_secs(2)));
        let quantile = |share| times.quantile_since(&earlier, share).unwrap();
        assert!((0.005..=0.01).contains(&quantile(0.5)), "{}", quantile(0.5));
        assert!((1.0..=2.5).contains(&quantile(0.95)), "{}", quantile(0.95));
        times.observe(Duration::from_secs(1000));
        assert_eq!(times.quantile_since(&earlier, 1.0), Some(300.0));
    }
}
