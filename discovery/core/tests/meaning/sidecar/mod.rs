//! `Sidecar`: what can be reached, through what, and what is served.

mod egress;
mod ingress;

use crate::Tables;
use crate::fixture::*;
use crate::table::*;

pub(crate) const TABLES: &[Tables] = &[egress::TABLES, ingress::TABLES];
