//! NetworkService.

use std::{collections::BTreeMap, net::IpAddr, sync::Arc};

use strata_net::{Family, Network, Pool, PoolWish, Prefix, Wish};
use strata_proto::{
    runtime::v1::{self as wire, network_service_server::NetworkService},
    types::v1::HostEntry,
};
use strata_rpc::{Caller, pages, to_status};
use strata_types::NetworkName;
use tonic::{Request, Response, Status};

use super::{attachments, convert, grants, ports, refuse};
use crate::{engine::Engine, error::Error};

mod drivers;

/// The service.
pub struct NetworkDoor {
    engine: Arc<Engine>,
}

impl NetworkDoor {
    /// A service over an engine.
    pub fn new(engine: Arc<Engine>) -> Self {
        Self { engine }
    }

    fn show(&self, network: Network) -> wire::Network {
        let members = self.engine.members(&network).into_iter().map(|(container, endpoint)| wire::NetworkMember {
            container_id: container.id.to_string(),
            container_name: container.name().to_string(),
            endpoint: Some(attachments::wire_endpoint(&endpoint)),
        });
        wire::Network {
            members: members.collect(),
            id: network.id.to_string(),
            created_at: Some(convert::timestamp(network.created_at)),
            spec: Some(wire_spec(network)),
        }
    }
}

#[tonic::async_trait]
impl NetworkService for NetworkDoor {
    async fn create_network(
        &self,
        request: Request<wire::CreateNetworkRequest>,
    ) -> Result<Response<wire::CreateNetworkResponse>, Status> {
        let caller = Caller::of(&request)?;
        let wish = wish(request.into_inner().spec).map_err(refuse)?;
        grants::network(&caller, wish.driver)?;
        let network = self.engine.networks().create(wish).await.map_err(refuse)?;
        Ok(Response::new(wire::CreateNetworkResponse { network: Some(self.show(network)) }))
    }

    async fn get_network(
        &self,
        request: Request<wire::GetNetworkRequest>,
    ) -> Result<Response<wire::GetNetworkResponse>, Status> {
        let network = self.engine.networks().find(&request.into_inner().network).map_err(refuse)?;
        Ok(Response::new(wire::GetNetworkResponse { network: Some(self.show(network)) }))
    }

    async fn list_networks(
        &self,
        request: Request<wire::ListNetworksRequest>,
    ) -> Result<Response<wire::ListNetworksResponse>, Status> {
        let request = request.into_inner();
        let after = pages::decode(&request.page_token).map_err(|error| to_status(&error))?.unwrap_or_default();
        let size = pages::size(request.page_size);
        let mut page = self.engine.networks().page(&after, size + 1);
        let next_page_token = pages::cut(&mut page, size, |network| network.id.to_string());
        let networks = page.into_iter().map(|network| self.show(network)).collect();
        Ok(Response::new(wire::ListNetworksResponse { networks, next_page_token }))
    }

    async fn delete_network(
        &self,
        request: Request<wire::DeleteNetworkRequest>,
    ) -> Result<Response<wire::DeleteNetworkResponse>, Status> {
        let request = request.into_inner();
        let network = match self.engine.networks().find(&request.network) {
            Err(Error::Network(strata_net::Error::NotFound { .. })) if request.allow_missing => {
                return Ok(Response::new(wire::DeleteNetworkResponse { id: String::new() }));
            }
            found => found.map_err(refuse)?,
        };
        let id = network.id.to_string();
        self.engine.networks().delete(network.id).await.map_err(refuse)?;
        Ok(Response::new(wire::DeleteNetworkResponse { id }))
    }

    async fn prune_networks(
        &self,
        request: Request<wire::PruneNetworksRequest>,
    ) -> Result<Response<wire::PruneNetworksResponse>, Status> {
        let request = request.into_inner();
        let before = convert::moment("before", request.before).map_err(refuse)?;
        let labels = convert::label_conditions("labels", request.labels).map_err(refuse)?;
        let is_meant = move |network: &Network| {
            before.is_none_or(|before| network.created_at < before)
                && labels.iter().all(|condition| condition.holds(&network.labels))
        };
        let deleted = self.engine.prune_networks(is_meant).await;
        Ok(Response::new(wire::PruneNetworksResponse { deleted }))
    }

    async fn connect_container(
        &self,
        request: Request<wire::ConnectContainerRequest>,
    ) -> Result<Response<wire::ConnectContainerResponse>, Status> {
        let request = request.into_inner();
        let missing = || refuse(Error::argument("attachment", "it is missing"));
        let attachment = attachments::attachment("attachment", request.attachment.ok_or_else(missing)?);
        let attachment = attachment.map_err(refuse)?;
        let container = self.engine.find(&request.container).map_err(refuse)?;
        let endpoint = self.engine.connect(container, attachment).await.map_err(refuse)?;
        let endpoint = endpoint.as_ref().map(attachments::wire_endpoint);
        Ok(Response::new(wire::ConnectContainerResponse { endpoint }))
    }

    async fn disconnect_container(
        &self,
        request: Request<wire::DisconnectContainerRequest>,
    ) -> Result<Response<wire::DisconnectContainerResponse>, Status> {
        let request = request.into_inner();
        let container = self.engine.find(&request.container).map_err(refuse)?;
        self.engine.disconnect(container, request.network, request.force).await.map_err(refuse)?;
        Ok(Response::new(wire::DisconnectContainerResponse {}))
    }

    async fn publish_ports(
        &self,
        request: Request<wire::PublishPortsRequest>,
    ) -> Result<Response<wire::PublishPortsResponse>, Status> {
        let request = request.into_inner();
        let bindings = ports::some_bindings("bindings", request.bindings).map_err(refuse)?;
        let container = self.engine.find(&request.container).map_err(refuse)?;
        let published = self.engine.publish_ports(container, bindings).await.map_err(refuse)?;
        let published_ports = published.iter().map(ports::wire_published).collect();
        Ok(Response::new(wire::PublishPortsResponse { published_ports }))
    }

    async fn unpublish_ports(
        &self,
        request: Request<wire::UnpublishPortsRequest>,
    ) -> Result<Response<wire::UnpublishPortsResponse>, Status> {
        let request = request.into_inner();
        let bindings = ports::some_bindings("bindings", request.bindings).map_err(refuse)?;
        let container = self.engine.find(&request.container).map_err(refuse)?;
        let closed = self.engine.unpublish_ports(container, bindings).await.map_err(refuse)?;
        let closed_ports = closed.iter().map(ports::wire_published).collect();
        Ok(Response::new(wire::UnpublishPortsResponse { closed_ports }))
    }
}

/// Parses what a network shall be.
fn wish(spec: Option<wire::NetworkSpec>) -> Result<Wish, Error> {
    let spec = spec.ok_or_else(|| Error::argument("spec", "it is missing"))?;
    let driver = drivers::driver(&spec)?;
    let name = NetworkName::parse(spec.name).map_err(|invalid| Error::invalid("spec.name", invalid))?;
    let pools: Vec<PoolWish> = spec.pools.into_iter().map(pool).collect::<Result<_, _>>()?;
    let has_six = pools.iter().any(|pool| pool.subnet.family() == Family::V6);
    if has_six && !spec.has_ipv6 {
        return Err(Error::argument("spec.pools", "a subnet of IPv6 needs a network that has IPv6"));
    }
    if spec.has_no_ipv4 && pools.iter().any(|pool| pool.subnet.family() == Family::V4) {
        return Err(Error::argument("spec.pools", "there is a subnet of IPv4 for a network without it"));
    }
    let host_binding = match spec.host_binding.as_str() {
        "" => None,
        text => {
            Some(text.parse().map_err(|_| Error::argument("spec.host_binding", format!("{text:?} is no address")))?)
        }
    };
    Ok(Wish {
        driver,
        pools,
        has_ipv4: !spec.has_no_ipv4,
        has_ipv6: spec.has_ipv6,
        is_internal: spec.is_internal,
        interface: Some(spec.interface).filter(|name| !name.is_empty()),
        mtu: Some(spec.mtu).filter(|mtu| *mtu != 0),
        is_open_within: !spec.is_closed_within,
        has_masquerade: !spec.has_no_masquerade,
        host_binding,
        labels: spec.labels.into_iter().collect(),
        ..Wish::bridge(name)
    })
}

fn pool(pool: wire::NetworkPool) -> Result<PoolWish, Error> {
    let wrong = |problem: String| Error::argument("spec.pools", problem);
    let prefix = |text: &str| text.parse::<Prefix>().map_err(|error| wrong(error.to_string()));
    let address = |text: &str| text.parse::<IpAddr>().map_err(|_| wrong(format!("{text:?} is no address")));
    let given = |text: &str| Some(text.to_owned()).filter(|text| !text.is_empty());
    let reserved: BTreeMap<String, IpAddr> = pool
        .reserved
        .into_iter()
        .map(|entry| Ok((entry.name, address(&entry.address)?)))
        .collect::<Result<_, Error>>()?;
    Ok(PoolWish {
        subnet: prefix(&pool.subnet)?,
        range: given(&pool.range).as_deref().map(prefix).transpose()?,
        gateway: given(&pool.gateway).as_deref().map(address).transpose()?,
        reserved,
    })
}

fn wire_spec(network: Network) -> wire::NetworkSpec {
    let driver = network.driver;
    let mut spec = wire::NetworkSpec {
        name: network.name.to_string(),
        has_no_ipv4: network.pool(Family::V4).is_none(),
        has_ipv6: network.pool(Family::V6).is_some(),
        pools: network.pools.iter().map(wire_pool).collect(),
        is_internal: network.is_internal,
        interface: network.interface,
        mtu: network.mtu,
        is_closed_within: !network.is_open_within,
        has_no_masquerade: !network.has_masquerade,
        host_binding: network.host_binding.map_or_else(String::new, |address| address.to_string()),
        labels: network.labels.into_iter().collect(),
        ..Default::default()
    };
    drivers::tell(driver, &mut spec);
    spec
}

fn wire_pool(pool: &Pool) -> wire::NetworkPool {
    let reserved =
        pool.reserved.iter().map(|(name, address)| HostEntry { name: name.clone(), address: address.to_string() });
    wire::NetworkPool {
        subnet: pool.subnet.to_string(),
        range: pool.range.map_or_else(String::new, |range| range.to_string()),
        gateway: pool.gateway.to_string(),
        reserved: reserved.collect(),
    }
}
