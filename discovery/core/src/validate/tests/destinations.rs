use super::*;

/// A policy of a rule that is right otherwise.
fn policy(policy: &Value, expected: &[&str]) {
    check(ConfigKind::DestinationRule, &json!({"host": "a", "trafficPolicy": policy}), expected);
}

#[test]
fn a_rule_is_for_a_host_and_its_parts() {
    for (value, expected) in [
        (json!({"host": "a", "subsets": [{"name": "v1", "labels": {"version": "v1"}}]}), &[][..]),
        (json!({"host": "*.a.com"}), &[]),
        (json!({}), &["spec.host: is missing"]),
        (json!({"host": "a b"}), &["spec.host: \"a b\" is no host name"]),
        (
            json!({"host": "a", "subsets": [{"name": "v1"}, {"name": "v1"}, {"labels": {"": "-"}}]}),
            &[
                "spec.subsets[1].name: \"v1\" is taken",
                "spec.subsets[2].name: is missing",
                "spec.subsets[2].labels: \"\" is no name",
                "spec.subsets[2].labels.: \"-\" is no value",
            ],
        ),
        (json!({"host": "a", "workloadSelector": {"matchLabels": {"a": "b"}}, "exportTo": ["."]}), &[]),
        (
            json!({"host": "a", "workloadSelector": {"matchLabels": {"a": "*"}}, "exportTo": ["*"]}),
            &["spec.exportTo: with a workloadSelector", "spec.workloadSelector.matchLabels.a: wildcards"],
        ),
        (
            json!({"host": "a", "workloadSelector": {}}),
            &["warning spec.workloadSelector.matchLabels: is empty"],
        ),
        (
            json!({"host": "a", "subsets": [{"name": "v1", "trafficPolicy": {}}]}),
            &["spec.subsets[0].trafficPolicy: says nothing"],
        ),
    ] {
        check(ConfigKind::DestinationRule, &value, expected);
    }
}

#[test]
fn limits_and_timeouts_are_in_their_bounds() {
    policy(&json!({}), &["spec.trafficPolicy: says nothing"]);
    policy(&json!({"connectionPool": {}}), &["spec.trafficPolicy.connectionPool: says nothing"]);
    policy(
        &json!({"connectionPool": {"tcp": {"maxConnections": 0, "connectTimeout": "30ms", "idleTimeout": "0s"}}}),
        &[],
    );
    policy(
        &json!({"connectionPool": {"tcp": {"maxConnections": -1, "connectTimeout": "1us", "tcpKeepalive": {"time": "0s"}},
            "http": {"maxRetries": -1, "h2UpgradePolicy": "UPGRADE", "useClientProtocol": true, "http2KeepAlive": {"interval": "1s"}}}}),
        &[
            "spec.trafficPolicy.connectionPool.http.maxRetries: -1 is less",
            "spec.trafficPolicy.connectionPool.http.useClientProtocol: contradicts",
            "spec.trafficPolicy.connectionPool.http.http2KeepAlive.timeout: is missing",
            "spec.trafficPolicy.connectionPool.tcp.maxConnections: -1 is less",
            "spec.trafficPolicy.connectionPool.tcp.connectTimeout: 1µs is too short",
            "spec.trafficPolicy.connectionPool.tcp.tcpKeepalive.time: 0ns is too short",
        ],
    );
    policy(
        &json!({"outlierDetection": {"consecutive5xxErrors": 7, "interval": "5m", "maxEjectionPercent": 100}}),
        &[],
    );
    policy(
        &json!({"outlierDetection": {"consecutiveErrors": 1, "consecutiveLocalOriginFailures": 1, "baseEjectionTime": "0s",
            "maxEjectionPercent": 101, "outlierDetectionHttpErrorCodes": [500, 600]}}),
        &[
            "warning spec.trafficPolicy.outlierDetection.consecutiveErrors: is deprecated",
            "spec.trafficPolicy.outlierDetection.consecutiveLocalOriginFailures: needs",
            "spec.trafficPolicy.outlierDetection.baseEjectionTime: 0ns is too short",
            "spec.trafficPolicy.outlierDetection.maxEjectionPercent: 101 is no share",
            "spec.trafficPolicy.outlierDetection.outlierDetectionHttpErrorCodes[1]: 600 is no status",
        ],
    );
    policy(&json!({"portLevelSettings": [{"port": {"number": 80}, "tls": {"mode": "SIMPLE"}}]}), &[]);
    policy(
        &json!({"portLevelSettings": [{"tls": {"mode": "SIMPLE"}}, {"port": {"number": 80}}]}),
        &[
            "spec.trafficPolicy.portLevelSettings[0].port: is missing",
            "spec.trafficPolicy.portLevelSettings[1]: says nothing but a port",
        ],
    );
    policy(
        &json!({"tunnel": {"protocol": "GET", "targetHost": "a b"}, "proxyProtocol": {}}),
        &[
            "spec.trafficPolicy: has tunnel and proxyProtocol",
            "spec.trafficPolicy.tunnel.protocol: \"GET\" is neither",
            "spec.trafficPolicy.tunnel.targetHost: \"a b\" is neither",
            "spec.trafficPolicy.tunnel.targetPort: 0 is no port",
            "warning spec.trafficPolicy.tunnel: is not supported yet",
        ],
    );
    policy(
        &json!({"retryBudget": {"percent": 120}}),
        &["spec.trafficPolicy.retryBudget.percent: 120 is no share"],
    );
}

#[test]
fn certificates_come_from_one_place() {
    let tls = |tls: Value, expected: &[&str]| policy(&json!({ "tls": tls }), expected);
    tls(json!({"mode": "MUTUAL", "clientCertificate": "c", "privateKey": "k", "caCertificates": "r"}), &[]);
    tls(json!({"mode": "SIMPLE", "credentialName": "configmap://roots"}), &[]);
    tls(
        json!({"mode": "MUTUAL"}),
        &["spec.trafficPolicy.tls.clientCertificate: is missing", "spec.trafficPolicy.tls.privateKey: is"],
    );
    tls(
        json!({"mode": "MUTUAL", "credentialName": "s", "privateKey": "k"}),
        &["spec.trafficPolicy.tls.credentialName: excludes files"],
    );
    tls(
        json!({"mode": "SIMPLE", "insecureSkipVerify": true, "subjectAltNames": ["a"]}),
        &["spec.trafficPolicy.tls.insecureSkipVerify: excludes"],
    );
    tls(json!({"mode": "MUTUAL", "credentialName": "s", "insecureSkipVerify": true}), &[]);
    tls(
        json!({"mode": "SIMPLE", "credentialName": "configmap://other/roots"}),
        &["spec.trafficPolicy.tls.credentialName: only a ConfigMap"],
    );
}

#[test]
fn a_balancer_has_one_policy_and_one_key() {
    let lb = |balancer: Value, expected: &[&str]| {
        policy(&json!({"loadBalancer": balancer, "outlierDetection": {"interval": "1s"}}), expected);
    };
    lb(
        json!({"consistentHash": {"httpCookie": {"name": "c", "ttl": "0s"}, "maglev": {"tableSize": 65537}}}),
        &[],
    );
    lb(
        json!({"simple": "RANDOM", "consistentHash": {"useSourceIp": true, "httpHeaderName": "x", "ringHash": {}, "minimumRingSize": 5}}),
        &[
            "spec.trafficPolicy.loadBalancer: has simple and consistentHash",
            "spec.trafficPolicy.loadBalancer.consistentHash: has httpHeaderName and useSourceIp",
            "spec.trafficPolicy.loadBalancer.consistentHash: has ringHash and minimumRingSize",
            "warning spec.trafficPolicy.loadBalancer.consistentHash.minimumRingSize: is deprecated",
        ],
    );
    lb(
        json!({"consistentHash": {"useSourceIp": true, "maglev": {"tableSize": 65536}}}),
        &["spec.trafficPolicy.loadBalancer.consistentHash.maglev.tableSize: 65536 is no prime"],
    );
    lb(
        json!({"consistentHash": {"httpCookie": {"attributes": [{"name": "a"}, {"name": "a"}, {}]}}}),
        &[
            "spec.trafficPolicy.loadBalancer.consistentHash.httpCookie.name: is missing",
            "spec.trafficPolicy.loadBalancer.consistentHash.httpCookie.attributes[1].name: \"a\" is there before",
            "spec.trafficPolicy.loadBalancer.consistentHash.httpCookie.attributes[2].name: is missing",
        ],
    );
    lb(
        json!({"warmup": {"minimumPercent": 150, "aggression": 0}}),
        &[
            "spec.trafficPolicy.loadBalancer.warmup.duration: is missing",
            "spec.trafficPolicy.loadBalancer.warmup.minimumPercent: 150 is no share",
            "spec.trafficPolicy.loadBalancer.warmup.aggression: 0 is not more",
        ],
    );
}

#[test]
fn localities_are_apart_and_their_shares_whole() {
    let near = |locality: Value, expected: &[&str]| {
        let expected: Vec<String> = expected
            .iter()
            .map(|line| line.replace("LB", "spec.trafficPolicy.loadBalancer.localityLbSetting"))
            .collect();
        let expected: Vec<&str> = expected.iter().map(String::as_str).collect();
        policy(&json!({"loadBalancer": {"localityLbSetting": locality}, "outlierDetection": {}}), &expected);
    };
    near(
        json!({"distribute": [{"from": "a/b/*", "to": {"a/b/*": 80, "a/c": 20}}, {"from": "a/c", "to": {"*": 100}}]}),
        &[],
    );
    near(
        json!({"distribute": [{"from": "a", "to": {"a": 0, "b": 90}}, {"from": "a/b", "to": {"a": 100}}]}),
        &[
            "LB.distribute: \"a/b\" overlaps",
            "LB.distribute[0].to.a: 0 is no share",
            "LB.distribute[0].to: the shares are 90 together",
        ],
    );
    near(
        json!({"distribute": [{"from": "a/*/c", "to": {"a//b": 100}}]}),
        &["LB.distribute: \"a/*/c\": a wildcard", "LB.distribute[0].to: \"a//b\" has an empty part"],
    );
    near(
        json!({"failover": [{"from": "a", "to": "a"}, {"from": "b/c", "to": "*"}], "failoverPriority": ["topology.kubernetes.io/zone"]}),
        &[
            "LB.failoverPriority[0]: excludes failover",
            "LB.failover[0]: \"a\" cannot take over",
            "LB.failover[1].from: \"b/c\" is no region",
            "LB.failover[1].to: \"*\" is no region",
        ],
    );
    policy(
        &json!({"loadBalancer": {"localityLbSetting": {"failoverPriority": ["a"]}}}),
        &["warning spec.trafficPolicy.loadBalancer.localityLbSetting: failover has no effect"],
    );
    policy(
        &json!({"loadBalancer": {"localityLbSetting": {}, "zoneAwareLbSetting": {"failoverPriority": ["topology.istio.io/subzone"], "minClusterSize": 0}}, "outlierDetection": {}}),
        &[
            "spec.trafficPolicy.loadBalancer: has localityLbSetting and zoneAwareLbSetting",
            "spec.trafficPolicy.loadBalancer.zoneAwareLbSetting.failoverPriority[0]: regions and zones",
            "spec.trafficPolicy.loadBalancer.zoneAwareLbSetting.minClusterSize: 0 is no size",
        ],
    );
}
