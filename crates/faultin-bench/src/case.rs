//! The unit of comparison: one operation of ours and the peers that do the same job.

use super::sample::Sampler;

/// An upper bound for a ratio. Information for the reader: no measurement asserts a time.
#[derive(Clone, Copy)]
pub struct Bound {
    factor: f64,
    extra_ns: f64,
}

impl Bound {
    /// Makes a bound of `factor` times the peer.
    pub fn times(factor: f64) -> Self {
        Bound { factor, extra_ns: 0.0 }
    }

    /// Adds this number of nanoseconds, for the whole operation.
    pub fn plus_ns(self, extra_ns: f64) -> Self {
        Bound { extra_ns, ..self }
    }

    pub fn for_peer(self, peer_ns: f64) -> f64 {
        self.factor + self.extra_ns / peer_ns
    }
}

pub(super) struct Subject<'a> {
    pub peer: &'static str,
    pub bound: Option<Bound>,
    pub sampler: Sampler<'a>,
    /// Whether it promises the result that [`Case::verified`] checks.
    pub promises: bool,
    pub iterations: u64,
    /// Nanoseconds of one operation, per round.
    pub times: Vec<f64>,
}

impl<'a> Subject<'a> {
    fn new(peer: &'static str, bound: Option<Bound>, sampler: Sampler<'a>) -> Self {
        Subject { peer, bound, sampler, promises: true, iterations: 1, times: Vec::new() }
    }
}

/// The row against the fastest of several peers.
pub(super) struct Better {
    pub label: &'static str,
    pub peers: Vec<&'static str>,
    pub bound: Option<Bound>,
}

/// One operation of ours and its peers; see the module.
pub struct Case<'a> {
    pub(super) name: String,
    pub(super) size: usize,
    pub(super) per: usize,
    pub(super) subjects: Vec<Subject<'a>>,
    pub(super) better: Vec<Better>,
    pub(super) prepare: Box<dyn FnMut() + 'a>,
    pub(super) verify: Box<dyn FnMut() -> Result<(), String> + 'a>,
    pub(super) verify_iterations: u64,
}

impl<'a> Case<'a> {
    /// Makes a case. The table sorts it by `size`: bytes, unless the name says otherwise.
    pub fn new(name: impl Into<String>, size: usize, ours: Sampler<'a>) -> Self {
        Case {
            name: name.into(),
            size,
            per: 1,
            subjects: vec![Subject::new("ours", None, ours)],
            better: Vec::new(),
            prepare: Box::new(|| {}),
            verify: Box::new(|| Ok(())),
            verify_iterations: 1,
        }
    }

    pub fn peer(mut self, peer: &'static str, bound: Option<Bound>, sampler: Sampler<'a>) -> Self {
        self.subjects.push(Subject::new(peer, bound, sampler));
        self
    }

    /// Adds a peer that does only part of the job: it is verified only that it ran.
    pub fn lesser_peer(mut self, peer: &'static str, sampler: Sampler<'a>) -> Self {
        self.subjects.push(Subject { promises: false, ..Subject::new(peer, None, sampler) });
        self
    }

    /// Adds a row against the fastest of `peers`.
    pub fn better_of(mut self, label: &'static str, peers: &[&'static str], bound: Option<Bound>) -> Self {
        self.better.push(Better { label, peers: peers.to_vec(), bound });
        self
    }

    /// Sets how often one operation does the job; times are shown for one.
    pub fn per(mut self, per: usize) -> Self {
        self.per = per;
        self
    }

    /// Sets how to verify that a subject did its job: `prepare` before `iterations` of it, `verify` after.
    pub fn verified(
        mut self,
        iterations: u64,
        prepare: impl FnMut() + 'a,
        verify: impl FnMut() -> Result<(), String> + 'a,
    ) -> Self {
        self.prepare = Box::new(prepare);
        self.verify = Box::new(verify);
        self.verify_iterations = iterations;
        self
    }
}
