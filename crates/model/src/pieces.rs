//! Work on the pieces of one large thing, on a few threads at once. Blocks: for threads that may.

use std::sync::Mutex;

/// Threads for one of them; more would take the model's processors.
const THREADS_MAX: usize = 4;

/// Does the work for each item. The first error ends it.
pub fn each<T: Send, E: Send>(
    items: impl Iterator<Item = T> + Send,
    work: impl Fn(T) -> Result<(), E> + Sync,
) -> Result<(), E> {
    let threads = std::thread::available_parallelism().map_or(1, usize::from).min(THREADS_MAX);
    let items = Mutex::new(items);
    let next = || items.lock().expect("no panic while locked").next();
    let run = || {
        while let Some(item) = next() {
            work(item)?;
        }
        Ok(())
    };
    std::thread::scope(|scope| {
        let others: Vec<_> = (1..threads).map(|_| scope.spawn(run)).collect();
        let own = run();
        others.into_iter().fold(own, |result, other| {
            result.and(other.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
        })
    })
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;

    #[test]
    fn every_piece_is_worked_on_once_and_an_error_is_told() {
        let sum = AtomicU64::new(0);
        let add = |number: u64| {
            sum.fetch_add(number, Ordering::Relaxed);
            Ok::<_, ()>(())
        };
        assert_eq!(each(0..1000_u64, add), Ok(()));
        assert_eq!(sum.into_inner(), 499_500);
        assert_eq!(each(0..1000, |number| if number == 777 { Err("no") } else { Ok(()) }), Err("no"));
    }
}
