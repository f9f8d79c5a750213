//! `sizewise quickstart`: what does all of it look like, once, on an example?
//!
//! Every step is the command itself, with the arguments that a user would type; nothing is prepared behind the scenes.

use super::{DONE, batch, certify, decide, evaluate, init, report, serve::Serving, train, trained::threads};
use crate::{
    cli::{Adapt, Batch, Certify, Decide, Distil, Evaluate, Init, Quickstart, Report, Train},
    error::{Error, Result},
    project::Project,
    screen::Screen,
    serve::{ServeError, Settings},
};
use sizewise_learn::table::{TableReader, TableWriter, TableWriterOptions};
use std::{net::TcpListener, num::NonZeroUsize, path::Path};

const TICKETS: &str = include_str!("../../example/tickets.csv");
const SETTINGS: &str = "# Settings of this project; `sizewise serve --help` names what the command line can say instead.\n\
                        [serve]\nbind = \"127.0.0.1:8484\"\n";
const NAME: &str = "support";
const MESSAGE: &str = "I was charged twice for the same tent, please give one payment back";
/// Tickets that the batch answers.
const NEW_TICKETS: usize = 200;

pub(super) fn run(arguments: &Quickstart, screen: &Screen) -> Result<u8> {
    if screen.is_json() {
        return Err(Error::usage("quickstart is a story for people; its steps take -o json each"));
    }
    let folder = &arguments.folder;
    if folder.join("tasks").exists() {
        return Err(Error::Exists {
            path: folder.join("tasks"),
            hint: "go on in it with `sizewise --project FOLDER list`, or choose another --folder".into(),
        });
    }
    if !arguments.no_serve {
        // Found out now, not after all the work.
        TcpListener::bind(arguments.bind)
            .map_err(|source| Error::Serve(ServeError::Address { bind: arguments.bind, source }))?;
    }
    let story = Story { screen };
    story.say(
        "A company's support desk gets 3,078 messages that people have sorted by team and urgency. We make small\n\
         models of them, prove how often they are wrong, and serve them. Everything runs on this machine.",
    );
    story.say(&format!(
        "Each step is a command that you can type yourself, in the folder {}.{}",
        folder.display(),
        program().map_or_else(String::new, |path| format!("\n`sizewise` stands for {path}"))
    ));
    write(&folder.join("tickets.csv"), TICKETS)?;
    write(&folder.join("sizewise.toml"), SETTINGS)?;
    let project = Project::find(Some(folder))?;
    let tickets = folder.join("tickets.csv");

    story.step(
        "init support --from tickets.csv",
        "Guess the columns, look for what is odd, and lock a third of the rows away.",
    );
    let init = Init { from: Some(tickets.clone()), ..init_arguments() };
    init::run(&project, &init, &screen.for_step(None))?;

    story.step("train support", "Fit the tiers, smallest first, and judge each on rows it has not seen.");
    let train = Train {
        task: NAME.into(),
        seed: 1,
        threads: None,
        balance: false,
        encoder: None,
        doubted: crate::cli::Doubted::Keep,
        adapt: Adapt::default(),
        distil: Distil::default(),
    };
    train::run(&project, &train, &screen.for_step(None))?;

    story.step("certify support", "Say the chance first, then open the locked rows, once.");
    let verdict = certify::run(
        &project,
        &Certify {
            task: NAME.into(),
            dry_run: false,
            anyway: true,
            release: None,
            reason: None,
            wait: false,
        },
        &screen.for_step(None),
    )?;

    story.step("evaluate support --mistakes 3", "Look closer, on the development rows.");
    let evaluate = Evaluate { task: NAME.into(), against: None, mistakes: 3 };
    evaluate::run(&project, &evaluate, &screen.for_step(None))?;

    story.step(&format!("decide support \"{MESSAGE}\""), "One answer, with the path to it.");
    let decide = Decide {
        task: NAME.into(),
        input: MESSAGE.into(),
        nearest: 3,
        record: false,
        allow_uncertified: verdict != DONE,
    };
    decide::run(&project, &decide, &screen.for_step(None))?;

    story.step(
        "batch support new-tickets.csv -o answers.csv",
        "Answer a table; what nobody is sure of stays empty.",
    );
    let new = folder.join("new-tickets.csv");
    write_unlabelled(&tickets, &new)?;
    let batch = Batch { task: NAME.into(), input: new, force: false, allow_uncertified: verdict != DONE };
    batch::run(&project, &batch, &screen.for_step(Some(folder.join("answers.csv"))))?;

    story.step("report support -o report.html", "Put it on one page for those who were not there.");
    let page = Report { task: NAME.into(), against: None };
    report::run(&project, &page, &screen.for_step(Some(folder.join("report.html"))))?;

    if arguments.no_serve {
        let sizewise = program().unwrap_or_else(|| "sizewise".into());
        story.say(&format!("\nNext: {sizewise} --project {} serve", folder.display()));
        return Ok(DONE);
    }
    story.step("serve", "Answer over HTTP, on the protocols that clients already speak.");
    let serving = Serving::start(&project, threads(), verdict != DONE)?;
    let settings = Settings {
        bind: arguments.bind,
        workers: NonZeroUsize::new(threads()).unwrap_or(NonZeroUsize::MIN),
        ..Settings::default()
    };
    serving.run(settings, screen, |address| story.say(&try_it(&address.to_string(), folder)))?;
    Ok(DONE)
}

/// How to call this program, where its name alone does not find it.
fn program() -> Option<String> {
    let own = std::env::current_exe().ok()?;
    let name = own.file_name()?.to_owned();
    let paths = std::env::var_os("PATH")?;
    let found = std::env::split_paths(&paths).any(|folder| folder.join(&name).is_file());
    (!found).then(|| own.display().to_string())
}

fn init_arguments() -> Init {
    Init {
        task: NAME.into(),
        from: None,
        from_site: None,
        gold: None,
        text: Vec::new(),
        labels: Vec::new(),
        out_of_scope: None,
        group: None,
        time: None,
        slices: Vec::new(),
        teacher: false,
        max_served_error: 0.05,
        locked_share: None,
        dev_share: None,
        seed: 1,
        keep_case: false,
        force: false,
    }
}

struct Story<'a> {
    screen: &'a Screen,
}

impl Story<'_> {
    fn say(&self, text: &str) {
        self.screen.result("quickstart", &(), || format!("{text}\n"));
    }

    fn step(&self, command: &str, why: &str) {
        let line = self.screen.bold(&format!("$ sizewise {command}"));
        self.say(&format!("\n{line}\n# {why}\n"));
    }
}

/// Writes some tickets as they come in, without labels.
fn write_unlabelled(from: &Path, to: &Path) -> Result<()> {
    let mut tickets = TableReader::open(from)?;
    let message = tickets.columns().iter().position(|column| column == "message").unwrap_or(0);
    let mut table = TableWriter::create(to, &["message".to_owned()], &TableWriterOptions::default())?;
    let (mut row, mut written) = (Vec::new(), 0);
    while let Some(number) = tickets.next_row(&mut row)?
        && written < NEW_TICKETS
    {
        if number % 8 == 0 {
            table.write(&[row.get(message).cloned().unwrap_or_default()])?;
            written += 1;
        }
    }
    Ok(table.finish()?)
}

fn write(path: &Path, text: &str) -> Result<()> {
    let folder = path.parent().unwrap_or(Path::new("."));
    std::fs::create_dir_all(folder)
        .and_then(|()| std::fs::write(path, text))
        .map_err(|cause| Error::file(path, cause))
}

fn try_it(address: &str, folder: &Path) -> String {
    format!(
        r#"
Serving on http://{address}. Try it from another terminal; Ctrl-C stops.

curl http://{address}/v1/tasks/support/decide -d '{{"input": "{MESSAGE}"}}'

pip install openai
python3 - <<'END'
from openai import OpenAI
client = OpenAI(base_url="http://{address}/v1", api_key="none")
reply = client.chat.completions.create(model="support", messages=[{{"role": "user", "content": "{MESSAGE}"}}])
print(reply.choices[0].message.content)
END

What nobody is sure of waits for a person:  {1} --project {0} queue list
The proof:                                  curl http://{address}/v1/tasks/support/certificate
The whole story on one page:                {0}/report.html
"#,
        folder.display(),
        program().unwrap_or_else(|| "sizewise".into())
    )
}
