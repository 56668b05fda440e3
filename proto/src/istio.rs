//! Messages of Istio's own, derived by hand: Envoy's API does not carry them, and a few fields are not
//! worth a `.proto` file.

use crate::google::protobuf::Struct;

/// `udpa.type.v1.TypedStruct`: a configuration whose message the sender need not know.
/// Istio uses it for the extensions of its own Envoy build.
#[derive(Clone, PartialEq, prost::Message)]
pub struct TypedStruct {
    /// Type of the message that `value` is the JSON of.
    #[prost(string, tag = "1")]
    pub type_url: String,
    /// The message, as JSON.
    #[prost(message, optional, tag = "2")]
    pub value: Option<Struct>,
}

impl prost::Name for TypedStruct {
    const NAME: &'static str = "TypedStruct";
    const PACKAGE: &'static str = "udpa.type.v1";

    fn full_name() -> String {
        "udpa.type.v1.TypedStruct".into()
    }

    fn type_url() -> String {
        "type.googleapis.com/udpa.type.v1.TypedStruct".into()
    }
}
