//! How does a short text get to somebody's mailbox?
//!
//! It is handed to a mail server that passes it on (RFC 5321, RFC 6409), from a thread that may wait: one connection a letter, as letters are
//! few. Which addresses may be called is decided when the connection is made, as for providers.

use super::{
    client::{connector, dial, secure},
    reach::Reach,
};
use base64::{Engine, prelude::BASE64_STANDARD};
use std::{fmt::Write, time::Duration};
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader};

/// Longest line of a reply, with room to spare (RFC 5321 has 512). `bytes`
const LINE: u64 = 2_048;
/// Most lines of one reply.
const LINES: usize = 100;
/// Longest address. `bytes`
const ADDRESS: usize = 254;

/// How what is sent is protected on the way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Security {
    /// Begins in the open and changes to TLS, or ends; port 587 as a rule.
    StartTls,
    /// TLS from the first byte; port 465 as a rule.
    Tls,
    /// Not at all.
    None,
}

/// A server that takes letters.
#[derive(Clone, PartialEq, Eq)]
pub struct MailServer {
    /// Its name.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// How it is talked to.
    pub security: Security,
    /// Name and password, where it wants them.
    pub login: Option<(String, String)>,
    /// Whether its name may lead to a private network.
    pub private: bool,
}

/// Sends letters by one server.
#[derive(Debug)]
pub struct Mail {
    server: MailServer,
    reach: Reach,
    runtime: tokio::runtime::Runtime,
}

/// What is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Letter<'l> {
    /// Who sends it.
    pub from: &'l str,
    /// Who gets it.
    pub to: &'l [String],
    /// What it is about, in one line.
    pub subject: &'l str,
    /// What it says.
    pub text: &'l str,
    /// When it was written, as RFC 5322 spells it.
    pub date: &'l str,
    /// What tells it from all others, without the sender's domain.
    pub id: &'l str,
}

impl std::fmt::Debug for MailServer {
    /// Without the password.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MailServer")
            .field("host", &self.host)
            .field("port", &self.port)
            .finish_non_exhaustive()
    }
}

impl Mail {
    /// A server by its settings.
    ///
    /// # Errors
    /// Says which setting cannot be: a password that would cross the network unprotected is one.
    pub fn new(server: MailServer) -> Result<Self, String> {
        let private = server.private || super::chat::is_this_machine(&server.host);
        if server.security == Security::None && !private {
            return Err(
                "letters would cross the network unprotected: use tls = \"starttls\" or \"tls\", or private = true".into()
            );
        }
        let reach = if server.private { Reach::Private } else { Reach::of(&server.host) };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        Ok(Self { server, reach, runtime: runtime.map_err(|error| error.to_string())? })
    }

    /// Hands one letter over; when this returns, the server has taken it for everybody it is for.
    ///
    /// # Errors
    /// Says why it did not. Some of those it is for may have been taken then.
    pub fn send(&self, letter: &Letter<'_>, patience: Duration) -> Result<(), String> {
        for address in letter.to.iter().map(String::as_str).chain([letter.from]) {
            Self::check(address)?;
        }
        let sent = self.hand_over(letter);
        match self.runtime.block_on(async { tokio::time::timeout(patience, sent).await }) {
            Ok(done) => done,
            Err(_) => Err("it did not answer in time".into()),
        }
    }

    /// Whether an address can stand in a command without becoming part of it.
    ///
    /// # Errors
    /// Says that it cannot.
    pub fn check(address: &str) -> Result<(), String> {
        let plain = |letter: char| letter.is_ascii_graphic() && !"<>()[]\\,;:\"".contains(letter);
        let parts = address.split_once('@').filter(|(name, domain)| !name.is_empty() && !domain.is_empty());
        let fits = parts.is_some_and(|(_, domain)| !domain.contains('@'))
            && address.len() <= ADDRESS
            && address.chars().all(plain);
        fits.then_some(()).ok_or_else(|| format!("`{}` is no mail address", address.escape_debug()))
    }

    async fn hand_over(&self, letter: &Letter<'_>) -> Result<(), String> {
        let MailServer { host, port, security, .. } = &self.server;
        let stream = dial((host, *port), self.reach).await?;
        let tls = |stream| async {
            let connector = connector().map_err(|error| error.to_string())?;
            secure(&connector, host, stream).await
        };
        match security {
            Security::None => self.converse(Talk::greeted(stream).await?, letter).await,
            Security::Tls => self.converse(Talk::greeted(tls(stream).await?).await?, letter).await,
            Security::StartTls => {
                let mut open = Talk::greeted(stream).await?;
                if !open.hello().await?.iter().any(|word| word.eq_ignore_ascii_case("STARTTLS")) {
                    return Err("it does not offer TLS".into());
                }
                open.say("STARTTLS", 220).await?;
                // What it sent before TLS began would be taken for its answers afterwards.
                if !open.0.buffer().is_empty() {
                    return Err("it went on talking in the open".into());
                }
                self.converse(Talk::new(tls(open.0.into_inner()).await?), letter).await
            }
        }
    }

    async fn converse<S>(&self, mut talk: Talk<S>, letter: &Letter<'_>) -> Result<(), String>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        talk.hello().await?;
        if let Some((name, password)) = &self.server.login {
            let token = BASE64_STANDARD.encode(format!("\0{name}\0{password}"));
            talk.say(&format!("AUTH PLAIN {token}"), 235)
                .await
                .map_err(|problem| format!("it refuses the login: {problem}"))?;
        }
        talk.say(&format!("MAIL FROM:<{}>", letter.from), 250).await?;
        for to in letter.to {
            talk.say(&format!("RCPT TO:<{to}>"), 250).await?;
        }
        talk.say("DATA", 354).await?;
        talk.say(&format!("{}\r\n.", written(letter)), 250).await?;
        // It has the letter, whatever it says to this.
        let _ = talk.say("QUIT", 221).await;
        Ok(())
    }
}

/// A conversation with a mail server.
struct Talk<S>(BufReader<S>);

impl<S> Talk<S>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    fn new(stream: S) -> Self {
        Self(BufReader::new(stream))
    }

    async fn greeted(stream: S) -> Result<Self, String> {
        let mut talk = Self::new(stream);
        talk.hear(220).await?;
        Ok(talk)
    }

    /// Says who calls; returns the words with which the lines of the reply begin.
    async fn hello(&mut self) -> Result<Vec<String>, String> {
        let said = self.say("EHLO [127.0.0.1]", 250).await?;
        Ok(said.iter().filter_map(|line| line.split_whitespace().next()).map(str::to_owned).collect())
    }

    async fn say(&mut self, line: &str, expected: u16) -> Result<Vec<String>, String> {
        let broken = |error: std::io::Error| error.to_string();
        self.0.write_all(format!("{line}\r\n").as_bytes()).await.map_err(broken)?;
        self.0.flush().await.map_err(broken)?;
        self.hear(expected).await
    }

    /// The texts of one reply's lines.
    async fn hear(&mut self, expected: u16) -> Result<Vec<String>, String> {
        let mut texts = Vec::new();
        while texts.len() < LINES {
            let mut line = Vec::new();
            let read = (&mut self.0).take(LINE).read_until(b'\n', &mut line).await;
            read.map_err(|error| error.to_string())?;
            let line = String::from_utf8_lossy(&line);
            let (Some(code), true) =
                (line.get(..3).and_then(|code| code.parse::<u16>().ok()), line.ends_with('\n'))
            else {
                return Err("it does not speak SMTP".into());
            };
            let text = line.get(4..).unwrap_or_default().trim().to_owned();
            if code != expected {
                let shown: String = text.chars().filter(|letter| !letter.is_control()).take(200).collect();
                return Err(format!("it answered {code} {shown}"));
            }
            texts.push(text);
            if line.as_bytes().get(3) != Some(&b'-') {
                return Ok(texts);
            }
        }
        Err("its answer has no end".into())
    }
}

/// A letter as it crosses the wire, in lines that no server has to break.
fn written(letter: &Letter<'_>) -> String {
    let mut lines = String::new();
    let domain = letter.from.split_once('@').map_or("localhost", |(_, domain)| domain);
    let subject: Vec<String> =
        letter.subject.chars().collect::<Vec<_>>().chunks(15).map(encoded_word).collect();
    let _ = write!(
        lines,
        "From: <{}>\r\nTo: <{}>\r\nSubject: {}\r\nDate: {}\r\nMessage-ID: <{}@{domain}>\r\nMIME-Version: 1.0\r\n\
         Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: base64\r\nAuto-Submitted: auto-generated\r\n",
        letter.from,
        letter.to.join(">,\r\n <"),
        subject.join("\r\n "),
        letter.date,
        letter.id,
    );
    let text = BASE64_STANDARD.encode(letter.text.replace("\r\n", "\n").replace('\n', "\r\n"));
    for line in text.as_bytes().chunks(76) {
        let _ = write!(lines, "\r\n{}", String::from_utf8_lossy(line));
    }
    lines
}

/// Letters as RFC 2047 lets them stand in a header, whichever they are.
fn encoded_word(letters: &[char]) -> String {
    format!("=?utf-8?B?{}?=", BASE64_STANDARD.encode(letters.iter().collect::<String>()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test")]

    use super::*;
    use std::{
        io::{BufRead, BufReader, Write as _},
        net::TcpListener,
        thread::JoinHandle,
    };

    const TO: [&str; 2] = ["ops@example.com", "lead@example.org"];

    /// A server that answers each command by its first word; hands out what it heard.
    fn server(answers: &'static [(&'static str, &'static str)]) -> (u16, JoinHandle<Vec<String>>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let heard = std::thread::spawn(move || {
            let (stream, _) = listener.accept().unwrap();
            let (mut out, mut heard, mut body) = (stream.try_clone().unwrap(), Vec::new(), false);
            out.write_all(b"220-mail.example.com\r\n220 ready\r\n").unwrap();
            for line in BufReader::new(stream).lines() {
                let Ok(line) = line else { break };
                heard.push(line.clone());
                if body && line != "." {
                    continue;
                }
                body = line == "DATA";
                let answer =
                    answers.iter().find(|(begins, _)| line.starts_with(begins)).map(|(_, answer)| *answer);
                let _ = out.write_all(answer.unwrap_or("502 what?\r\n").as_bytes());
            }
            heard
        });
        (port, heard)
    }

    const GOOD: &[(&str, &str)] = &[
        ("EHLO", "250-mail.example.com\r\n250-SIZE 1000000\r\n250 AUTH PLAIN\r\n"),
        ("AUTH PLAIN AG5hbWUAc2VjcmV0", "235 welcome\r\n"),
        ("MAIL", "250 ok\r\n"),
        ("RCPT", "250 ok\r\n"),
        ("DATA", "354 go on\r\n"),
        (".", "250 taken\r\n"),
        ("QUIT", "221 bye\r\n"),
    ];

    fn by(port: u16) -> MailServer {
        let login = Some(("name".to_owned(), "secret".to_owned()));
        MailServer { host: "127.0.0.1".into(), port, security: Security::None, login, private: false }
    }

    fn send(server: MailServer, to: &[&str], subject: &str, text: &str) -> Result<(), String> {
        let to: Vec<String> = to.iter().map(|to| (*to).to_owned()).collect();
        let date = "Sun, 22 Nov 2026 09:30:00 +0000";
        let letter = Letter { from: "sizewise@example.com", to: &to, subject, text, date, id: "1.2" };
        Mail::new(server).unwrap().send(&letter, Duration::from_secs(10))
    }

    #[test]
    fn a_letter_is_handed_over_with_everything_a_server_wants() {
        let (port, heard) = server(GOOD);
        let text = "Zusage größer als versprochen\n.\nQUIT\n".repeat(5);
        send(by(port), &TO, "support/team: in Zweifel, und das in einer langen Zeile über vieles", &text)
            .unwrap();
        let heard = heard.join().unwrap();
        let commands: Vec<&str> = heard.iter().map(String::as_str).take(6).collect();
        assert_eq!(
            commands,
            [
                "EHLO [127.0.0.1]",
                "AUTH PLAIN AG5hbWUAc2VjcmV0",
                "MAIL FROM:<sizewise@example.com>",
                "RCPT TO:<ops@example.com>",
                "RCPT TO:<lead@example.org>",
                "DATA"
            ]
        );
        let letter = heard.join("\r\n");
        let (head, body) = letter.split_once("\r\n\r\n").unwrap();
        assert!(head.contains("To: <ops@example.com>,\r\n <lead@example.org>\r\n"), "{head}");
        assert!(head.contains("Message-ID: <1.2@example.com>"), "{head}");
        let subject: String = head
            .split("=?utf-8?B?")
            .skip(1)
            .map(|word| {
                String::from_utf8(BASE64_STANDARD.decode(word.split_once("?=").unwrap().0).unwrap()).unwrap()
            })
            .collect();
        assert_eq!(subject, "support/team: in Zweifel, und das in einer langen Zeile über vieles");
        let coded: String = body.split("\r\n.").next().unwrap().split_whitespace().collect();
        assert_eq!(
            String::from_utf8(BASE64_STANDARD.decode(coded).unwrap()).unwrap(),
            text.replace('\n', "\r\n")
        );
        assert!(letter.lines().all(|line| line.len() <= 78), "{letter}");
    }

    #[test]
    fn a_server_that_refuses_is_quoted_and_one_that_does_not_offer_tls_gets_nothing() {
        const NO: &[(&str, &str)] = &[("EHLO", "250 mail\r\n"), ("AUTH", "535 5.7.8 wrong\r\n")];
        let (port, heard) = server(NO);
        assert_eq!(
            send(by(port), &TO, "s", "t").unwrap_err(),
            "it refuses the login: it answered 535 5.7.8 wrong"
        );
        assert_eq!(heard.join().unwrap().len(), 2);
        let (port, heard) = server(NO);
        let open = MailServer { security: Security::StartTls, ..by(port) };
        assert_eq!(send(open, &TO, "s", "t").unwrap_err(), "it does not offer TLS");
        assert_eq!(heard.join().unwrap(), ["EHLO [127.0.0.1]"]);
    }

    #[test]
    fn what_is_no_address_never_becomes_a_command() {
        for address in ["ops", "@example.com", "ops@", "a@b@c", "a@b\r\nDATA", "a b@c", "a>@c", "ä@c"] {
            let refused = send(by(1), &[address], "s", "t").unwrap_err();
            assert!(refused.ends_with("is no mail address"), "{refused}");
        }
    }

    #[test]
    fn letters_never_cross_a_network_in_the_open_unless_somebody_said_so() {
        let open = MailServer { host: "mail.example.com".into(), ..by(25) };
        assert!(Mail::new(open.clone()).unwrap_err().contains("unprotected"));
        assert!(Mail::new(MailServer { private: true, ..open.clone() }).is_ok());
        assert!(!format!("{open:?}").contains("secret"));
    }
}
