//! gRPC's server reflection, v1 and v1alpha, for grpcurl and similar tools.
//!
//! The descriptors of Envoy's API are decoded on the first request.
//! <https://github.com/grpc/grpc/blob/master/doc/server-reflection.md>

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};

use futures_util::{Stream, StreamExt as _};
use http::Uri;
use prost_reflect::{DescriptorPool, FileDescriptor};
use tonic::body::Body;
use tonic::server::NamedService;
use tonic::{Code, Request, Response, Status, Streaming};
use tonic_reflection::pb::v1::server_reflection_request::MessageRequest as Ask;
use tonic_reflection::pb::v1::server_reflection_response::MessageResponse as Answer;
use tonic_reflection::pb::v1::server_reflection_server::{ServerReflection, ServerReflectionServer};
use tonic_reflection::pb::v1::{
    ErrorResponse, ExtensionNumberResponse, FileDescriptorResponse, ListServiceResponse,
    ServerReflectionRequest, ServerReflectionResponse, ServiceResponse,
};

/// Names of both versions and of the health service, which are described besides Envoy's API.
pub(crate) const NAMES: [&str; 3] =
    ["grpc.health.v1.Health", "grpc.reflection.v1.ServerReflection", Alpha::<()>::NAME];

/// Reflection of these services.
#[derive(Clone)]
pub(crate) struct Reflection {
    services: Arc<[&'static str]>,
}

/// Serves v1 under the name of v1alpha: their messages are equal on the wire.
#[derive(Clone)]
pub(crate) struct Alpha<S>(S);

/// Returns both versions.
pub(crate) fn services(
    names: &[&'static str],
) -> (ServerReflectionServer<Reflection>, Alpha<ServerReflectionServer<Reflection>>) {
    let v1 =
        ServerReflectionServer::new(Reflection { services: names.iter().copied().chain(NAMES).collect() });
    (v1.clone(), Alpha(v1))
}

// === impl Reflection ===

#[tonic::async_trait]
impl ServerReflection for Reflection {
    type ServerReflectionInfoStream =
        Pin<Box<dyn Stream<Item = Result<ServerReflectionResponse, Status>> + Send>>;

    async fn server_reflection_info(
        &self,
        request: Request<Streaming<ServerReflectionRequest>>,
    ) -> Result<Response<Self::ServerReflectionInfoStream>, Status> {
        let this = self.clone();
        let answers = request.into_inner().map(move |request| request.map(|request| this.answer(request)));
        Ok(Response::new(Box::pin(answers)))
    }
}

impl Reflection {
    fn answer(&self, request: ServerReflectionRequest) -> ServerReflectionResponse {
        let answer = match &request.message_request {
            Some(Ask::ListServices(_)) => {
                let service = self.services.iter().map(|name| ServiceResponse { name: (*name).to_owned() });
                Ok(Answer::ListServicesResponse(ListServiceResponse { service: service.collect() }))
            }
            Some(Ask::FileByFilename(name)) => file(name, |pool| pool.get_file_by_name(name)),
            Some(Ask::FileContainingSymbol(name)) => file(name, |pool| containing(pool, name)),
            Some(Ask::FileContainingExtension(asked)) => {
                let extends = |pool: &DescriptorPool| {
                    let number = u32::try_from(asked.extension_number).ok()?;
                    let message = pool.get_message_by_name(&asked.containing_type)?;
                    message.get_extension(number).map(|extension| extension.parent_file())
                };
                file(&asked.containing_type, extends)
            }
            Some(Ask::AllExtensionNumbersOfType(name)) => extensions(name),
            None => Err(Status::invalid_argument("message_request is missing")),
        };
        let answer = answer.unwrap_or_else(|status| {
            Answer::ErrorResponse(ErrorResponse {
                error_code: Code::into(status.code()),
                error_message: status.message().to_owned(),
            })
        });
        ServerReflectionResponse {
            valid_host: request.host.clone(),
            original_request: Some(request),
            message_response: Some(answer),
        }
    }
}

/// Returns the descriptors of Envoy's API and of the other services.
fn pools() -> [&'static DescriptorPool; 2] {
    static OURS: OnceLock<DescriptorPool> = OnceLock::new();
    let ours = OURS.get_or_init(|| {
        let mut pool = DescriptorPool::new();
        for set in [
            tonic_health::pb::FILE_DESCRIPTOR_SET,
            tonic_reflection::pb::v1::FILE_DESCRIPTOR_SET,
            tonic_reflection::pb::v1alpha::FILE_DESCRIPTOR_SET,
        ] {
            // Constants of those packages; a test looks up each of them.
            let added = pool.decode_file_descriptor_set(set);
            debug_assert!(added.is_ok(), "{added:?}");
        }
        pool
    });
    [pilot_proto::proto3_json::pool(), ours]
}

fn file(name: &str, find: impl Fn(&DescriptorPool) -> Option<FileDescriptor>) -> Result<Answer, Status> {
    let found = pools().into_iter().find_map(find);
    let found = found.ok_or_else(|| Status::not_found(format!("{name:?} is not known here")))?;
    let file_descriptor_proto = vec![found.encode_to_vec()];
    Ok(Answer::FileDescriptorResponse(FileDescriptorResponse { file_descriptor_proto }))
}

fn containing(pool: &DescriptorPool, name: &str) -> Option<FileDescriptor> {
    let named = |name: &str| {
        let message = pool.get_message_by_name(name).map(|found| found.parent_file());
        let service = || pool.get_service_by_name(name).map(|found| found.parent_file());
        let enumeration = || pool.get_enum_by_name(name).map(|found| found.parent_file());
        let extension = || pool.get_extension_by_name(name).map(|found| found.parent_file());
        message.or_else(service).or_else(enumeration).or_else(extension)
    };
    // A method, field or value is in the file of its parent.
    named(name).or_else(|| named(name.rsplit_once('.')?.0))
}

fn extensions(name: &str) -> Result<Answer, Status> {
    let found = pools().into_iter().find_map(|pool| pool.get_message_by_name(name));
    let found = found.ok_or_else(|| Status::not_found(format!("{name:?} is not known here")))?;
    let numbers = found.extensions().filter_map(|extension| i32::try_from(extension.number()).ok());
    Ok(Answer::AllExtensionNumbersResponse(ExtensionNumberResponse {
        base_type_name: name.to_owned(),
        extension_number: numbers.collect(),
    }))
}

// === impl Alpha ===

impl<S> NamedService for Alpha<S> {
    const NAME: &'static str = "grpc.reflection.v1alpha.ServerReflection";
}

impl<S> tower::Service<http::Request<Body>> for Alpha<S>
where
    S: tower::Service<http::Request<Body>, Error = Infallible>,
{
    type Response = S::Response;
    type Error = Infallible;
    type Future = S::Future;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.0.poll_ready(cx)
    }

    fn call(&mut self, mut request: http::Request<Body>) -> S::Future {
        if request.uri().path().ends_with("/ServerReflectionInfo") {
            *request.uri_mut() =
                Uri::from_static("/grpc.reflection.v1.ServerReflection/ServerReflectionInfo");
        }
        self.0.call(request)
    }
}

#[cfg(test)]
mod tests {
    use prost::Message as _;
    use prost_types::FileDescriptorProto;

    use super::*;

    fn ask(what: Ask) -> Answer {
        let reflection = Reflection { services: ["a.B"].into_iter().chain(NAMES).collect() };
        let request = ServerReflectionRequest { host: "h".into(), message_request: Some(what) };
        let response = reflection.answer(request.clone());
        assert_eq!((response.valid_host.as_str(), response.original_request), ("h", Some(request)));
        response.message_response.unwrap()
    }

    fn file_of(what: Ask) -> Result<String, i32> {
        match ask(what) {
            Answer::FileDescriptorResponse(found) => {
                Ok(FileDescriptorProto::decode(found.file_descriptor_proto[0].as_slice())
                    .unwrap()
                    .name()
                    .to_owned())
            }
            Answer::ErrorResponse(error) => Err(error.error_code),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn every_symbol_leads_to_its_file() {
        const ADS: &str = "envoy/service/discovery/v3/ads.proto";
        for (symbol, expected) in [
            ("envoy.service.discovery.v3.AggregatedDiscoveryService", Ok(ADS)),
            ("envoy.service.discovery.v3.AggregatedDiscoveryService.DeltaAggregatedResources", Ok(ADS)),
            ("envoy.config.core.v3.Node", Ok("envoy/config/core/v3/base.proto")),
            ("envoy.config.core.v3.RoutingPriority", Ok("envoy/config/core/v3/base.proto")),
            ("grpc.health.v1.Health", Ok("health.proto")),
            ("grpc.reflection.v1.ServerReflection", Ok("reflection_v1.proto")),
            ("grpc.reflection.v1alpha.ServerReflection", Ok("reflection_v1alpha.proto")),
            ("nobody.Knows", Err(5)),
            ("", Err(5)),
        ] {
            let found = file_of(Ask::FileContainingSymbol(symbol.into()));
            assert_eq!(found.as_deref().map_err(|code| *code), expected, "{symbol}");
        }
        assert_eq!(file_of(Ask::FileByFilename(ADS.into())).as_deref(), Ok(ADS));
        assert_eq!(file_of(Ask::FileByFilename("etc/passwd".into())), Err(5));
    }

    #[test]
    fn the_list_names_what_is_served() {
        let Answer::ListServicesResponse(list) = ask(Ask::ListServices(String::new())) else { panic!() };
        let names: Vec<&str> = list.service.iter().map(|service| service.name.as_str()).collect();
        assert_eq!(names, ["a.B", NAMES[0], NAMES[1], NAMES[2]]);
    }
}
