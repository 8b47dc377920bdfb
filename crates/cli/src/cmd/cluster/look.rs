//! How a cluster is, seen from outside: its processes, and what each of them says.

use muster_client::{Client, ClientError};
use muster_proto::v1::{NodesReply, WorkerRow};

use super::home::{Member, Roster};
use crate::exit_code::Failure;
use crate::limits::CLUSTER_ASK_MAX;

/// A coordinator.
#[derive(Debug)]
pub(super) struct NodeSeen {
    pub(super) name: String,
    pub(super) address: String,
    /// Its process, while it lives.
    pub(super) pid: Option<u32>,
    /// What it says, if it answers.
    pub(super) said: Option<NodesReply>,
}

/// A worker.
#[derive(Debug)]
pub(super) struct WorkerSeen {
    pub(super) name: String,
    pub(super) pid: Option<u32>,
    /// What the leader knows of it.
    pub(super) row: Option<WorkerRow>,
}

/// All of them.
#[derive(Debug)]
pub(super) struct Seen {
    pub(super) nodes: Vec<NodeSeen>,
    pub(super) workers: Vec<WorkerSeen>,
    /// Who leads, in its own words.
    pub(super) leader: Option<String>,
}

impl Seen {
    /// Every process lives, one leads, and every worker is known to it.
    pub(super) fn is_whole(&self) -> bool {
        let nodes = self.nodes.iter().all(|one| one.pid.is_some() && one.said.as_ref().is_some_and(is_settled));
        nodes && self.leader.is_some() && self.workers.iter().all(|one| one.pid.is_some() && one.row.is_some())
    }

    /// The coordinator that leads.
    pub(super) fn leading(&self) -> Option<&NodeSeen> {
        let leader = self.leader.as_ref()?;
        self.nodes.iter().find(|one| one.name == *leader)
    }

    pub(super) fn node(&self, name: &str) -> Option<&NodeSeen> {
        self.nodes.iter().find(|one| one.name == name)
    }

    /// What a coordinator is now.
    pub(super) fn role(&self, node: &NodeSeen) -> &'static str {
        match (&node.pid, &node.said) {
            (None, _) => "down",
            (Some(_), None) => "silent",
            (Some(_), Some(_)) if self.leader.as_ref() == Some(&node.name) => "leader",
            (Some(_), Some(said)) if !said.waiting.is_empty() => "waiting",
            (Some(_), Some(said)) => match said.nodes.iter().find(|row| row.name == node.name) {
                Some(row) if row.voter => "follower",
                Some(_) => "learner",
                None => "waiting",
            },
        }
    }
}

/// It is a member, and knows who leads.
fn is_settled(said: &NodesReply) -> bool {
    said.waiting.is_empty() && !said.leader.is_empty()
}

/// Looks at everything once.
///
/// # Errors
/// When processes cannot be seen from here.
pub(super) async fn look(roster: &Roster) -> Result<Seen, Failure> {
    let nodes = roster.coordinators.iter().map(async |member| {
        let pid = pid(member)?;
        let said = match pid {
            Some(_) => ask(&member.address, async |client| client.nodes().await).await,
            None => None,
        };
        Ok::<_, Failure>(NodeSeen { name: member.name.clone(), address: member.address.clone(), pid, said })
    });
    let nodes: Vec<NodeSeen> = futures::future::try_join_all(nodes).await?;
    let leader = leading(&nodes);
    let address = leader.as_ref().and_then(|name| nodes.iter().find(|one| one.name == *name)).map(|one| &one.address);
    let rows = match address {
        Some(address) => ask(address, async |client| client.workers().await).await.unwrap_or_default(),
        None => Vec::new(),
    };
    let workers = roster.workers.iter().map(|member| {
        let row = rows.iter().find(|row| row.name == member.name).cloned();
        Ok::<_, Failure>(WorkerSeen { name: member.name.clone(), pid: pid(member)?, row })
    });
    Ok(Seen { workers: workers.collect::<Result<_, _>>()?, nodes, leader })
}

/// Who says of itself that it leads, in the latest term of all.
fn leading(nodes: &[NodeSeen]) -> Option<String> {
    let said = nodes.iter().filter_map(|one| one.said.as_ref()).filter(|said| said.leader == said.node);
    said.max_by_key(|said| said.term).map(|said| said.node.clone())
}

fn pid(member: &Member) -> Result<Option<u32>, Failure> {
    let Some(process) = &member.process else { return Ok(None) };
    Ok(process.is_alive()?.then_some(process.pid))
}

/// One question to one coordinator; `None` if there is no answer in time.
pub(super) async fn ask<T>(address: &str, question: impl AsyncFn(&Client) -> Result<T, ClientError>) -> Option<T> {
    let asked = async { question(&Client::connect_tcp(address, &muster_client::Access::default()).await?).await };
    match tokio::time::timeout(CLUSTER_ASK_MAX, asked).await {
        Ok(Ok(answer)) => Some(answer),
        Ok(Err(error)) => {
            tracing::debug!(address, %error, "no answer");
            None
        }
        Err(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(name: &str, term: u64, leader: &str) -> NodeSeen {
        let said = NodesReply { node: name.into(), term, leader: leader.into(), ..NodesReply::default() };
        NodeSeen { name: name.into(), address: String::new(), pid: Some(1), said: Some(said) }
    }

    #[test]
    fn of_two_that_say_they_lead_the_one_in_the_later_term_does() {
        let nodes = [node("a", 3, "a"), node("b", 4, "b"), node("c", 4, "b")];
        assert_eq!(leading(&nodes), Some("b".to_owned()));
        assert_eq!(leading(&[node("c", 4, "b")]), None, "what others say of one that does not answer is no proof");
    }
}
