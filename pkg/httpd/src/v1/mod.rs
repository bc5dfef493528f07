//! `/v1`: the API of Byway's own clients.

mod messages;
mod nodes;
mod reach;
mod state;

use std::sync::Arc;

use axum::Json;
use axum::routing::get;
use utoipa::openapi::OpenApi;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::app::App;

/// The description of `/v1`, as `GET /v1/openapi.json` serves it and `spec/openapi.json` keeps it.
pub fn openapi() -> OpenApi {
    router().split_for_parts().1
}

pub(crate) fn router() -> OpenApiRouter<Arc<App>> {
    let mut description = utoipa::openapi::OpenApiBuilder::new().build();
    description.info.title = "Byway".into();
    description.info.version = "1".into();
    description.info.description = Some(
        "The local API of a Byway daemon. Errors are application/problem+json with a stable `code`.".into(),
    );
    OpenApiRouter::with_openapi(description)
        .routes(routes!(state::status))
        .routes(routes!(state::peers, state::add_peer))
        .routes(routes!(state::remove_peer))
        .routes(routes!(state::links))
        .routes(routes!(state::routes))
        .routes(routes!(state::map))
        .routes(routes!(state::sessions))
        .routes(routes!(state::reload))
        .routes(routes!(state::shutdown))
        .routes(routes!(state::metrics))
        .routes(routes!(state::healthz))
        .routes(routes!(nodes::nodes, nodes::open))
        .routes(routes!(nodes::node, nodes::close))
        .routes(routes!(nodes::send, nodes::stream))
        .routes(routes!(reach::find))
        .routes(routes!(reach::lookup))
        .routes(routes!(reach::ping))
        .routes(routes!(reach::trace))
        .route("/v1/openapi.json", get(|| async { Json(openapi()) }))
}
