//! Messages of Istio's own, derived by hand: Envoy's API does not carry them, and a few fields are not
//! worth a `.proto` file.

use prost_types::field_descriptor_proto::{Label, Type};
use prost_types::{DescriptorProto, FieldDescriptorProto, FileDescriptorProto};

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

/// The descriptor of [`TypedStruct`], for JSON, in `udpa.type.v1` or under its later name in `xds.type.v3`.
pub(crate) fn typed_struct(package: &str) -> FileDescriptorProto {
    let field = |name: &str, number, kind: Type, type_name: Option<&str>| FieldDescriptorProto {
        name: Some(name.to_owned()),
        number: Some(number),
        label: Some(Label::Optional.into()),
        r#type: Some(kind.into()),
        type_name: type_name.map(str::to_owned),
        ..FieldDescriptorProto::default()
    };
    FileDescriptorProto {
        name: Some(format!("{}/typed_struct.proto", package.replace('.', "/"))),
        package: Some(package.to_owned()),
        syntax: Some("proto3".into()),
        dependency: vec!["google/protobuf/struct.proto".into()],
        message_type: vec![DescriptorProto {
            name: Some("TypedStruct".into()),
            field: vec![
                field("type_url", 1, Type::String, None),
                field("value", 2, Type::Message, Some(".google.protobuf.Struct")),
            ],
            ..DescriptorProto::default()
        }],
        ..FileDescriptorProto::default()
    }
}
