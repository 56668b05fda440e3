//! Clients without sense, held against the [`Model`](super::model::Model) of what the protocol demands and forbids.

use std::collections::BTreeSet;

use super::model::Model;
use super::requests::{RequestFields, spelt};
use super::server::{Request, Source, spelt_version};
use super::*;

/// A stream, its model, and the nonces so far.
struct Life {
    source: Source,
    model: Model,
    nonces: [Vec<String>; KINDS.len()],
    /// Responses that brought something new: what a client has, and that it loses something, it cannot reject.
    with_news: BTreeSet<String>,
}

// === impl Life ===

impl Life {
    fn new(codec: Codec) -> Self {
        Self {
            source: Source::new(codec),
            model: Model::new(codec),
            nonces: Default::default(),
            with_news: BTreeSet::new(),
        }
    }

    fn step(&mut self, mut dice: Dice) -> TraceResult {
        let kind = dice.roll(4);
        match dice.roll(8) {
            0 | 1 => {
                // The last name is never there.
                let (name, version) = (dice.roll(3), dice.pick(&[NONE, 1, 2, 3]));
                self.source.set(kind, name, version);
                self.model.on_change(kind, name, version);
            }
            2 if dice.chance(2) => {
                self.source.stream.ack_timed_out(KINDS[kind]);
                self.model.on_waive(kind);
            }
            3 if dice.chance(4) => self.ask_for_what_is_not_ours()?,
            3..=5 => self.answer(kind, dice.chance(4))?,
            _ => self.ask(kind, &mut dice)?,
        }
        if dice.chance(4) { Ok(()) } else { self.drain() }
    }

    fn ask_for_what_is_not_ours(&mut self) -> TraceResult {
        let type_url = "type.googleapis.com/envoy.config.cluster.v2.Cluster";
        let said = || RequestFields { names: vec!["a".into()], ..RequestFields::default() };
        let verdict = match self.source.codec {
            Codec::Sotw => self.source.stream.on_sotw_request(&said().sotw(type_url)),
            Codec::Delta => self.source.stream.on_delta_request(&said().delta(type_url)),
        };
        match verdict {
            RequestOutcome::UnknownType { .. } => Ok(()),
            other => Err(format!("rule 11: {other:?}")),
        }
    }

    /// The sensible thing: the last response is accepted, or rejected, by a client that wants what it wanted.
    fn answer(&mut self, kind: usize, rejects: bool) -> TraceResult {
        let Some(nonce) = self.nonces[kind].last().cloned() else { return Ok(()) };
        let names = match (self.source.codec, self.source.stream.requested(KINDS[kind])) {
            (Codec::Sotw, RequestedNames::Names(names)) => names.iter().map(ToString::to_string).collect(),
            (Codec::Sotw, RequestedNames::Wildcard) => vec!["*".to_owned()],
            _ => Vec::new(),
        };
        self.say(kind, RequestFields { nonce: &nonce, names, rejects, ..RequestFields::default() })
    }

    /// Anything else.
    fn ask(&mut self, kind: usize, dice: &mut Dice) -> TraceResult {
        let nonces = &self.nonces[kind];
        let nonce = match dice.roll(5) {
            0 | 1 => String::new(),
            2 | 3 => nonces.last().cloned().unwrap_or_default(),
            _ => match dice.roll(3) {
                0 => "unknown".to_owned(),
                _ if nonces.is_empty() => String::new(),
                _ => nonces[dice.roll(u32::try_from(nonces.len()).unwrap())].clone(),
            },
        };
        let subset = |dice: &mut Dice| {
            let bits = dice.roll(16);
            let mut names = spelt(std::array::from_fn(|name| bits & (1 << name) != 0));
            names.extend(dice.chance(4).then(|| "*".to_owned()));
            names
        };
        let names = subset(dice);
        // The remaining number is small; a constant keeps its bits different.
        let mut more = Dice(dice.0.wrapping_mul(0x9E37_79B9) ^ 0x5bd1_e995);
        let (mut unsubscribe, mut holds) = (Vec::new(), BTreeMap::new());
        let rejects = more.chance(6);
        if more.chance(2) {
            unsubscribe = subset(&mut more);
        }
        if more.chance(4) {
            holds = subset(&mut more)
                .into_iter()
                .filter(|name| name != "*")
                .map(|name| (name, spelt_version(kind, more.pick(&[1, 2, 9]))))
                .collect();
        }
        self.say(kind, RequestFields { nonce: &nonce, names, unsubscribe, holds, rejects })
    }

    fn say(&mut self, kind: usize, said: RequestFields) -> TraceResult {
        let type_url = KINDS[kind].type_url();
        let rejects = said.rejects && (said.nonce.is_empty() || self.with_news.contains(said.nonce));
        let said = RequestFields { rejects, ..said };
        let request = match self.source.codec {
            Codec::Sotw => Request::Sotw(said.sotw(type_url)),
            Codec::Delta => Request::Delta(said.delta(type_url)),
        };
        match &request {
            Request::Sotw(request) => self.model.on_sotw(kind, request),
            Request::Delta(request) => self.model.on_delta(kind, request),
        }
        match (self.source.hear(&request), rejects) {
            (RequestOutcome::UnknownType { .. }, _) => Err("rule 11: a type of ours is not known".into()),
            (RequestOutcome::Nack { .. }, true) => Ok(()),
            (verdict, true) => Err(format!("a rejection is taken for {verdict:?}")),
            (verdict @ RequestOutcome::Nack { .. }, false) => {
                Err(format!("{request:?} is taken for {verdict:?}"))
            }
            (_, false) => Ok(()),
        }
    }

    /// Everything that is due.
    fn drain(&mut self) -> TraceResult {
        // Each type once, clusters a second time when some leave; then endpoints that follow them.
        for _ in 0..16 {
            let Some(told) = self.source.respond() else { return self.at_rest() };
            for (name, spelt) in NAMES.into_iter().enumerate() {
                let (version, there) = (told.has[name], self.source.world[told.kind][name]);
                // A cluster that is gone and not to be lost yet is in the list as the client had it.
                if version != NONE && version == there && self.source.keeps_back(told.kind, name, version) {
                    return Err(format!("rule 14: {spelt} was rejected: {told:?}"));
                }
            }
            if self.model.brings_news(&told) {
                self.with_news.insert(told.nonce.clone());
            }
            self.model.on_told(&told, &self.source.world)?;
            self.nonces[told.kind].push(told.nonce);
        }
        Err("rule 14: the server never falls silent".into())
    }

    fn at_rest(&mut self) -> TraceResult {
        let source = &self.source;
        self.model.at_rest(&source.world, |kind, name, version| source.keeps_back(kind, name, version))
    }

    /// Everything is accepted, until there is nothing more to say.
    fn end(&mut self) -> TraceResult {
        self.drain()?;
        for _ in 0..16 {
            let waiting: Vec<usize> =
                (0..KINDS.len()).filter(|kind| self.model.watches[*kind].is_waiting()).collect();
            if waiting.is_empty() {
                return self.at_rest();
            }
            for kind in waiting {
                self.answer(kind, false)?;
            }
            self.drain()?;
        }
        Err("rule 14: the server never comes to an end".into())
    }
}

fn live(codec: Codec, steps: &[u32]) -> TraceResult {
    let mut life = Life::new(codec);
    for number in steps {
        life.step(Dice(*number))?;
    }
    life.end()
}

fn no_forbidden_answer_and_none_missing(codec: Codec) {
    check(20, |steps| live(codec, steps));
}

/// Traces that failed once.
#[test]
fn counterexamples_hold() {
    // A list of clusters that is rejected while a removed cluster is kept for listeners that may refer to it: the removed
    // cluster was a suspect although the client had accepted it, and the same list was sent again.
    let rejected_list_with_kept_cluster = [
        3_609_265_760,
        1_994_980_798,
        2_967_857_444,
        3_095_495_164,
        3_041_874_884,
        878_919_772,
        2_718_495_407,
        2_011_135_376,
    ];
    assert_eq!(live(Codec::Sotw, &rejected_list_with_kept_cluster), Ok(()));
    // A name is dropped and taken up again while its removal is in flight: the removal was sent again.
    let removal_in_flight = [788_734_398, 3_648_245_178, 2_422_763_562, 1_138_831_498, 885_263_646];
    assert_eq!(live(Codec::Delta, &removal_in_flight), Ok(()));
}

#[test]
fn no_answer_of_states_is_forbidden_and_none_is_missing() {
    no_forbidden_answer_and_none_missing(Codec::Sotw);
}

#[test]
fn no_answer_of_deltas_is_forbidden_and_none_is_missing() {
    no_forbidden_answer_and_none_missing(Codec::Delta);
}
