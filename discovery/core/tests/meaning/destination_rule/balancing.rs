//! Load balancing.

use super::*;

pub(super) const TABLES: Tables = &[simple, consistent_hash, warm_up, bytes];

fn balanced(said: &str) -> Client {
    policy(&format!("{{loadBalancer: {said}}}"))
}

#[test]
fn simple() {
    check_each(
        Look::Settings("balances"),
        "http://b/",
        balanced,
        &[
            ("the less busy one of two unless somebody says otherwise", "{}", "balances by least request"),
            ("UNSPECIFIED says nothing", "{simple: UNSPECIFIED}", "balances by least request"),
            ("LEAST_REQUEST is the less busy one", "{simple: LEAST_REQUEST}", "balances by least request"),
            ("LEAST_CONN is its old name", "{simple: LEAST_CONN}", "balances by least request"),
            ("ROUND_ROBIN is one after the other", "{simple: ROUND_ROBIN}", "balances by round robin"),
            ("RANDOM is any", "{simple: RANDOM}", "balances by random"),
        ],
    );
    check_each(
        Look::Upstream,
        "http://b/",
        balanced,
        &[(
            "PASSTHROUGH is where the client wanted to",
            "{simple: PASSTHROUGH}",
            "leads on to where the client wanted",
        )],
    );
}

#[test]
fn consistent_hash() {
    check_each(
        Look::Settings("balances"),
        "http://b/",
        |said| balanced(&format!("{{consistentHash: {said}}}")),
        &[
            ("a hash is looked up in a ring", "{useSourceIp: true}", "balances by ring hash of 1024"),
            (
                "a ring has the size that is said",
                "{useSourceIp: true, ringHash: {minimumRingSize: 9}}",
                "balances by ring hash of 9",
            ),
            (
                "a ring has the size that was said as it was once",
                "{useSourceIp: true, minimumRingSize: 7}",
                "balances by ring hash of 7",
            ),
            (
                "a hash is looked up in Maglev's table",
                "{useSourceIp: true, maglev: {tableSize: 11}}",
                "balances by maglev of 11",
            ),
        ],
    );
}

#[test]
fn warm_up() {
    check_each(
        Look::Settings("warms"),
        "http://b/",
        balanced,
        &[
            (
                "new endpoints get a tenth at first",
                "{warmup: {duration: 30s}}",
                "warms up for 30s from 10% by 1",
            ),
            (
                "new endpoints get another share at first, and more at another speed",
                "{simple: ROUND_ROBIN, warmup: {duration: 30s, minimumPercent: 5, aggression: 2}}",
                "warms up for 30s from 5% by 2",
            ),
            ("a time to warm up, as it was said once", "{warmupDurationSecs: 7s}", "warms up for 7s"),
            ("who is picked at random cannot warm up", "{simple: RANDOM, warmup: {duration: 30s}}", ""),
        ],
    );
}

#[test]
fn bytes() {
    check_each(
        Look::Policy("hash"),
        "tcp://b:81",
        balanced,
        &[
            ("connections are hashed by address", "{consistentHash: {useSourceIp: true}}", "hash source"),
            (
                "connections are hashed by nothing that only requests have",
                "{consistentHash: {httpHeaderName: x}}",
                "",
            ),
        ],
    );
}
