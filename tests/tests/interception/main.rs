//! Connections that netfilter leads to the proxy, as in a cluster: pods with machines of their own, and workloads that know of no
//! proxy. What leaves a pod by no rule of its mesh, what leaves by one, and what comes in.
//!
//! It takes root, iproute2 and iptables; `.ci/run` runs it.

mod egress;
mod inbound;
mod pod;
