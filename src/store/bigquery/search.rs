//! Which of many writes a refusal is about: what was refused is tried again in halves. First the largest parts, so that most of what can
//! be written is written soon; then the smallest, so that some come through wherever they stand.

/// Statements that may be refused before the search ends: a row that is at fault takes eleven of a thousand, and so many statements about
/// a minute.
const MOST_REFUSALS: usize = 120;

/// Writes that are sent together.
struct Part<T> {
    writes: Vec<T>,
    /// It is half of what was refused.
    of_refused: bool,
}

/// What is still to be sent.
pub(super) struct Search<T> {
    left: Vec<Part<T>>,
    refusals: usize,
    /// By how much parts are turned before they are halved: where one search ends before all are found, the next one, with another
    /// number, begins elsewhere.
    turn: usize,
}

impl<T> Search<T> {
    pub(super) fn new(turn: usize) -> Self {
        Self { left: Vec::new(), refusals: 0, turn }
    }

    /// Adds what is sent together at first.
    pub(super) fn add(&mut self, writes: Vec<T>) {
        self.put(writes, false);
    }

    fn put(&mut self, writes: Vec<T>, of_refused: bool) {
        if !writes.is_empty() {
            self.left.push(Part { writes, of_refused });
        }
    }

    /// The part to send next, and whether it is to be left out instead, for the search has ended.
    pub(super) fn next(&mut self) -> Option<(Vec<T>, bool)> {
        let sizes = self.left.iter().map(|part| part.writes.len()).enumerate();
        let (at, _) = if self.refusals < MOST_REFUSALS / 2 {
            sizes.rev().max_by_key(|(_, size)| *size)?
        } else {
            sizes.min_by_key(|(_, size)| *size)?
        };
        let part = self.left.remove(at);
        Some((part.writes, part.of_refused && self.refusals >= MOST_REFUSALS))
    }

    /// Takes note that a part was refused. The one that it is about is given back; more are tried again in halves.
    pub(super) fn refused(&mut self, mut writes: Vec<T>) -> Option<T> {
        self.refusals += 1;
        if writes.len() < 2 {
            return writes.pop();
        }
        let turn = self.turn % writes.len();
        writes.rotate_left(turn);
        let second = writes.split_off(writes.len() / 2);
        self.put(writes, true);
        self.put(second, true);
        None
    }

    /// Whether nothing is left.
    pub(super) fn is_over(&self) -> bool {
        self.left.is_empty()
    }

    /// What was not sent.
    pub(super) fn rest(self) -> impl Iterator<Item = T> {
        self.left.into_iter().flat_map(|part| part.writes)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// Searches some writes; those that are written, those that are named, and how many statements were refused.
    fn search(writes: &BTreeSet<u32>, bad: &dyn Fn(u32) -> bool, turn: usize) -> (Vec<u32>, Vec<u32>, usize) {
        let mut search = Search::new(turn);
        search.add(writes.iter().copied().collect());
        let (mut written, mut named, mut refusals) = (Vec::new(), Vec::new(), 0);
        while let Some((part, left_out)) = search.next() {
            if left_out {
                continue;
            }
            if part.iter().copied().any(bad) {
                refusals += 1;
                named.extend(search.refused(part));
            } else {
                written.extend(part);
            }
        }
        (written, named, refusals)
    }

    #[test]
    fn few_that_are_refused_are_all_named_and_the_others_written() {
        let writes = (0..1000).collect();
        let (written, named, refusals) = search(&writes, &|number| number == 7 || number == 900, 12_345);
        assert_eq!((written.len(), named.len()), (998, 2));
        assert!(refusals <= 22, "{refusals}");
    }

    #[test]
    fn however_many_are_refused_they_keep_no_other_out_for_ever() {
        // The first 80 of 120, and every other one of 400.
        let first = |number: u32| number < 80;
        let every_other = |number: u32| number.is_multiple_of(2);
        for (many, bad) in [(120, &first as &dyn Fn(u32) -> bool), (400, &every_other)] {
            let mut left: BTreeSet<u32> = (0..many).collect();
            let good = left.iter().filter(|number| !bad(**number)).count();
            let mut missing = good;
            for turn in 0..100 {
                let (written, named, refusals) = search(&left, bad, turn * 7919 + 3);
                assert!(refusals <= MOST_REFUSALS && named.iter().all(|number| bad(*number)));
                missing -= written.len();
                for number in written {
                    assert!(left.remove(&number) && !bad(number), "{number}");
                }
            }
            assert_eq!(missing, 0, "of {good}");
        }
        // Where they stand together nearly all of the others go in at once.
        assert!(search(&(0..120).collect(), &first, 0).0.len() > 30);
    }
}
