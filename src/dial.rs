//! The way to a broker or a camera: its name is looked up, and its addresses are raced.

use std::net::SocketAddr;
use std::time::Duration;
use tokio::net::{TcpStream, lookup_host};
use tokio::task::JoinSet;

/// Head start of an address over the next one (RFC 8305, section 5).
const STAGGER: Duration = Duration::from_millis(250);
/// Most addresses of a name that are tried.
const MAX_ADDRESSES: usize = 16;

/// Connects to the first address of `host` that answers; `avoid`, which answered before and was of no use,
/// is tried last. It may take as long as the caller lets it.
///
/// # Errors
/// Why not, for people.
pub(crate) async fn reach(host: &str, port: u16, avoid: Option<SocketAddr>) -> Result<TcpStream, String> {
    let found = lookup_host((host, port)).await.map_err(|error| format!("{host}: {error}"))?;
    let stream = race(last(avoid, in_turns(found.collect()))).await?;
    let _ = stream.set_nodelay(true);
    Ok(stream)
}

/// Addresses of the two families in turns, so that a family that leads nowhere costs one stagger.
fn in_turns(mut addresses: Vec<SocketAddr>) -> Vec<SocketAddr> {
    addresses.truncate(4 * MAX_ADDRESSES);
    let six_first = addresses.first().is_some_and(SocketAddr::is_ipv6);
    let (first, second): (Vec<_>, Vec<_>) =
        addresses.into_iter().partition(|address| address.is_ipv6() == six_first);
    let (mut first, mut second) = (first.into_iter(), second.into_iter());
    let mut ordered = Vec::new();
    loop {
        let pair = [first.next(), second.next()];
        if pair == [None, None] {
            break;
        }
        ordered.extend(
            pair.into_iter().flatten().filter(|address| !ordered.contains(address)).collect::<Vec<_>>(),
        );
    }
    ordered.truncate(MAX_ADDRESSES);
    ordered
}

/// The same addresses, `avoid` behind the others.
fn last(avoid: Option<SocketAddr>, mut addresses: Vec<SocketAddr>) -> Vec<SocketAddr> {
    addresses.sort_by_key(|address| Some(*address) == avoid);
    addresses
}

/// Tries each address a little after the one before, or at once when that one failed.
async fn race(addresses: Vec<SocketAddr>) -> Result<TcpStream, String> {
    let mut waiting = addresses.into_iter();
    let mut under_way = JoinSet::new();
    let mut failures = Vec::new();
    loop {
        if let Some(address) = waiting.next() {
            under_way.spawn(async move { (address, TcpStream::connect(address).await) });
        }
        tokio::select! {
            ended = under_way.join_next() => match ended {
                Some(Ok((_, Ok(stream)))) => return Ok(stream),
                Some(Ok((address, Err(error)))) => failures.push(format!("{error} ({address})")),
                Some(Err(error)) => failures.push(error.to_string()),
                None if failures.is_empty() => return Err("the name has no address".into()),
                None => return Err(in_words(&failures)),
            },
            () = tokio::time::sleep(STAGGER), if waiting.len() > 0 => {}
        }
    }
}

/// The first failures; a name may have many addresses.
fn in_words(failures: &[String]) -> String {
    const SHOWN: usize = 3;
    let mut words = failures[..failures.len().min(SHOWN)].join(", ");
    if failures.len() > SHOWN {
        words.push_str(&format!(" and {} more addresses", failures.len() - SHOWN));
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;
    use std::time::Instant;

    fn on_runtime<T>(future: impl Future<Output = T>) -> T {
        tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("a runtime")
            .block_on(future)
    }

    /// An address that swallows what is sent to it: its backlog is full.
    fn black_hole() -> (TcpListener, Vec<std::net::TcpStream>, SocketAddr) {
        let listener = on_runtime(async {
            let socket = tokio::net::TcpSocket::new_v4().expect("a socket");
            socket.bind(([127, 0, 0, 1], 0).into()).expect("a port");
            socket.listen(0).expect("listens").into_std().expect("a listener")
        });
        let address = listener.local_addr().expect("an address");
        let mut held = Vec::new();
        while let Ok(stream) = std::net::TcpStream::connect_timeout(&address, Duration::from_millis(200)) {
            held.push(stream);
            assert!(held.len() < 64, "the backlog never fills");
        }
        (listener, held, address)
    }

    #[test]
    fn an_address_that_never_answers_costs_a_stagger() {
        let (_listener, _held, dead) = black_hole();
        let alive = TcpListener::bind("127.0.0.1:0").expect("a port");
        let good = alive.local_addr().expect("an address");
        let begun = Instant::now();
        let stream = on_runtime(race(vec![dead, good])).expect("connects");
        assert_eq!(stream.peer_addr().expect("connected"), good);
        assert!(begun.elapsed() < Duration::from_secs(1), "{:?}", begun.elapsed());
    }

    #[test]
    fn addresses_that_refuse_are_named_and_cost_nothing() {
        let refusing = TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("an address");
        let alive = TcpListener::bind("127.0.0.1:0").expect("a port");
        let good = alive.local_addr().expect("an address");
        let unreachable: SocketAddr = "[2001:db8::1]:1883".parse().expect("an address");
        on_runtime(race(vec![refusing, unreachable, good])).expect("connects");
        let error = on_runtime(race(vec![refusing])).expect_err("refused");
        assert!(error.contains("refused") && error.contains("127.0.0.1:"), "{error}");
        assert!(on_runtime(race(Vec::new())).is_err());
    }

    #[test]
    fn families_take_turns_and_no_address_is_tried_twice() {
        let address = |text: &str| text.parse::<SocketAddr>().expect("an address");
        let (six, seven) = (address("[2001:db8::6]:1"), address("[2001:db8::7]:1"));
        let (four, five) = (address("192.0.2.4:1"), address("192.0.2.5:1"));
        assert_eq!(in_turns(vec![six, seven, six, four, five]), [six, four, seven, five]);
        assert_eq!(in_turns(vec![four; 100]), [four]);
        assert_eq!(last(Some(six), vec![six, four, seven]), [four, seven, six]);
        assert_eq!(last(None, vec![six, four]), [six, four]);
    }
}
