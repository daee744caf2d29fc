//! Queries on their own threads: the ones that answer requests never block the ones that accept them.
//!
//! A cheap query (a count) runs at once. An expensive one waits for one of a fixed number of places; when too many wait already,
//! or the wait or the query takes too long, the client is told to come back. A query that was given up still holds its place until it
//! ends, so no more than the fixed number ever run.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::task::{JoinError, JoinHandle};

use super::problem::Problem;
use super::settings::Limits;

/// How much a query may cost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cost {
    Cheap,
    Expensive,
}

/// The places queries run in.
pub struct Work {
    places: Arc<Semaphore>,
    total: usize,
    waiting: AtomicUsize,
    may_wait: usize,
    timeout: Duration,
}

/// Counts a waiting query for as long as it lives.
struct Waiting<'a>(&'a AtomicUsize);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Work {
    pub fn new(limits: &Limits) -> Work {
        let total = limits.running.max(1);
        Work {
            places: Arc::new(Semaphore::new(total)),
            total,
            waiting: AtomicUsize::new(0),
            may_wait: limits.waiting,
            timeout: limits.timeout,
        }
    }

    /// Expensive queries that run and that wait.
    pub fn load(&self) -> (usize, usize) {
        (self.total - self.places.available_permits(), self.waiting.load(Ordering::Relaxed))
    }

    /// Runs `query` on a thread that may block.
    ///
    /// # Errors
    /// What `query` returns; 503 when it cannot start or does not end in time; 500 when it panics.
    pub async fn run<T: Send + 'static>(
        &self,
        cost: Cost,
        query: impl FnOnce() -> Result<T, Problem> + Send + 'static,
    ) -> Result<T, Problem> {
        let timed = tokio::time::timeout(self.timeout, async {
            self.start(cost, query).await?.await.unwrap_or_else(|e| Err(ended_abnormally(e)))
        });
        timed.await.unwrap_or_else(|_| Err(self.too_late()))
    }

    /// Starts `query` on a thread that may block, once it has its place.
    ///
    /// # Errors
    /// 503 when too many wait already.
    pub async fn start<T: Send + 'static>(
        &self,
        cost: Cost,
        query: impl FnOnce() -> Result<T, Problem> + Send + 'static,
    ) -> Result<JoinHandle<Result<T, Problem>>, Problem> {
        let place = match cost {
            Cost::Cheap => None,
            Cost::Expensive => Some(self.place().await?),
        };
        Ok(tokio::task::spawn_blocking(move || {
            let answer = query();
            drop(place);
            answer
        }))
    }

    /// The problem of a query that did not end in time.
    pub fn too_late(&self) -> Problem {
        Problem::overloaded(format!("no answer within {} s", self.timeout.as_secs_f64()), 10)
            .hint("ask for less, or try again later")
    }

    async fn place(&self) -> Result<tokio::sync::OwnedSemaphorePermit, Problem> {
        if let Ok(place) = self.places.clone().try_acquire_owned() {
            return Ok(place);
        }
        let before = self.waiting.fetch_add(1, Ordering::Relaxed);
        let _waiting = Waiting(&self.waiting);
        if before >= self.may_wait {
            return Err(Problem::overloaded(format!("{} expensive queries run and {before} wait", self.total), 1)
                .hint("try again after the time in Retry-After"));
        }
        self.places.clone().acquire_owned().await.map_err(|_| Problem::overloaded("the server is stopping", 5))
    }
}

/// The problem of a query that panicked.
pub fn ended_abnormally(e: JoinError) -> Problem {
    tracing::error!("a query ended abnormally: {e}");
    Problem::internal("the query ended abnormally; the server's log has the details")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn work(running: usize, waiting: usize, timeout: Duration) -> Arc<Work> {
        Arc::new(Work::new(&Limits { running, waiting, timeout, ..Limits::default() }))
    }

    #[tokio::test]
    async fn one_runs_one_waits_the_third_is_sent_away_and_cheap_ones_pass() {
        let w = work(1, 1, Duration::from_secs(20));
        let (release, held) = std::sync::mpsc::channel::<()>();
        let first = tokio::spawn({
            let w = w.clone();
            async move { w.run(Cost::Expensive, move || Ok(held.recv().is_ok())).await }
        });
        while w.load().0 < 1 {
            tokio::task::yield_now().await;
        }
        let second = tokio::spawn({
            let w = w.clone();
            async move { w.run(Cost::Expensive, || Ok(2)).await }
        });
        while w.load().1 < 1 {
            tokio::task::yield_now().await;
        }
        let third = w.run(Cost::Expensive, || Ok(3)).await.unwrap_err();
        assert_eq!((third.status.as_u16(), third.retry_after), (503, Some(1)));
        assert_eq!(w.run(Cost::Cheap, || Ok(4)).await.unwrap(), 4);
        release.send(()).unwrap();
        assert!(first.await.unwrap().unwrap());
        assert_eq!(second.await.unwrap().unwrap(), 2);
        assert_eq!(w.load(), (0, 0));
    }

    #[tokio::test]
    async fn a_slow_query_is_given_up_but_keeps_its_place() {
        let w = work(1, 0, Duration::from_millis(30));
        let (release, held) = std::sync::mpsc::channel::<()>();
        let slow = w.run(Cost::Expensive, move || Ok(held.recv().is_ok())).await.unwrap_err();
        assert_eq!(slow.status.as_u16(), 503);
        assert_eq!(w.load().0, 1);
        assert_eq!(w.run(Cost::Expensive, || Ok(())).await.unwrap_err().status.as_u16(), 503);
        release.send(()).unwrap();
        while w.load().0 > 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        w.run(Cost::Expensive, || Ok(())).await.unwrap();
    }

    #[tokio::test]
    async fn a_panic_is_an_answer() {
        let w = work(1, 0, Duration::from_secs(5));
        let e = w.run::<()>(Cost::Expensive, || panic!("on purpose")).await.unwrap_err();
        assert_eq!(e.status.as_u16(), 500);
        assert_eq!(w.load(), (0, 0));
    }
}
