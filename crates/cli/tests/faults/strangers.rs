//! Connections of those who are no part of the cluster, and a network that loses packets.

use crate::lab::Lab;
use crate::net::Rule;
use crate::support::Running;
use crate::{HELD, TASKS};

/// Opens connections to every address that it is told, says something on each, and holds them until it is killed.
const CROWD: &str = "import resource, socket, sys\n\
    count, word, addresses = int(sys.argv[1]), bytes.fromhex(sys.argv[2]), sys.argv[3].split(',')\n\
    resource.setrlimit(resource.RLIMIT_NOFILE, (count * len(addresses) + 64,) * 2)\n\
    held = []\n\
    for host, port in (address.rsplit(':', 1) for address in addresses):\n\
    \x20   for _ in range(count):\n\
    \x20       one = socket.create_connection((host, int(port)))\n\
    \x20       try: one.sendall(word)\n\
    \x20       except OSError: pass\n\
    \x20       held.append(one)\n\
    print('held', len(held), flush=True)\n\
    import signal; signal.pause()\n";

/// A cluster in the middle of a run.
fn in_mid_run() -> Option<(Lab, Running)> {
    let lab = Lab::up(3, "", &["w1", "w2"])?;
    lab.jobs(TASKS, HELD);
    let run = lab.start_run();
    lab.until_held(HELD, 2, &run);
    Some((lab, run))
}

/// So many strangers connect to each coordinator, say the same and wait; then the leader dies.
fn strangers_hold_nobody_up(count: usize, word: &[u8]) {
    let Some((lab, run)) = in_mid_run() else { return };
    let word: String = word.iter().map(|byte| format!("{byte:02x}")).collect();
    let crowd = lab.crowd(CROWD, &[&count.to_string(), &word]);
    crowd.until_stdout(|text| text.contains("held"));
    lab.ask("status").exits(0);
    let lost = lab.leader(|_| true);
    lab.kill(&lost);
    lab.leader(|node| node != lost);
    lab.open();
    lab.ends_well(run, TASKS).nothing_repeated();
    crowd.kill();
    lab.start(&lost);
    lab.until_equal();
}

#[test]
fn a_thousand_connections_that_say_nothing_hold_nobody_up() {
    strangers_hold_nobody_up(1_000, b"");
}

#[test]
fn a_thousand_connections_that_begin_to_speak_http_and_stop_hold_nobody_up() {
    strangers_hold_nobody_up(1_000, b"PRI * HTTP/2.0\r\n");
}

#[test]
fn connections_that_claim_to_be_a_coordinator_s_and_stop_hold_nobody_up() {
    strangers_hold_nobody_up(200, b"MUSTPEER");
}

#[test]
fn connections_that_claim_to_be_a_coordinator_s_and_talk_rubbish_hold_nobody_up() {
    let rubbish: Vec<u8> = b"MUSTPEER".iter().copied().chain((0..200u8).map(|n| n.wrapping_mul(167) ^ 0x5a)).collect();
    strangers_hold_nobody_up(200, &rubbish);
}

#[test]
fn a_network_that_loses_one_packet_in_twenty_makes_no_result_wrong() {
    let Some((lab, run)) = in_mid_run() else { return };
    lab.net.rule(&[Rule::Loses(5)]);
    lab.open();
    lab.ends_well(run, TASKS).nothing_repeated();
    lab.net.rule(&[]);
    lab.until_equal();
}
