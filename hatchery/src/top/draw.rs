//! The model, drawn: the pool above, its applications, the selected one's workers and sessions, and a line for what is
//! asked or told.

use super::model::{Column, Line as Entry, Mode, Model, Pane, Row, active};
use hatchery_pool_server::show::{memory, printable, span};
use hatchery_protocol::status::Status;
use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, Borders, Clear, Paragraph, Row as TableRow, Table, TableState};

/// Of the table, without names and curves: state, workers, active, waiting, rate, memory, processor.
const FIGURES: [u16; 7] = [9, 4, 4, 5, 7, 7, 6];
const SHORTEST_NAME: u16 = 12;
const WIDEST_CURVE: u16 = 30;
/// Looks behind the curves of the table, and of the second pane.
const MINUTE: usize = 60;
const ALL: usize = 180;

const HELP: [&str; 15] = [
    "up, down, j, k, PageUp, PageDown, Home, End   select",
    "left, right, s, S                             sort by another column; the other way round",
    "/                                             filter by name, root, state or tenant; Esc shows all again",
    "Tab                                           to the workers and sessions, and back",
    "Enter                                         more room for them, or less",
    "r                                             restart: new workers first, then the old ones leave",
    "R                                             restart, and end the old workers at once (asks)",
    "x                                             stop (asks) or start",
    "d                                             disable (asks) or enable",
    "e                                             end the selected session, else the oldest (asks)",
    "q, Ctrl-C                                     leave; what is under way goes on",
    "",
    "WRK workers, ACT those with a session, WAIT requests that no worker can serve yet,",
    "CPU% of one processor; the curves: requests a second, and the queue, of the last minutes",
    "any key: back",
];

/// Colours, or only bold and reverse.
#[derive(Clone, Copy, Debug)]
pub(super) struct Looks {
    pub(super) colours: bool,
}

impl Looks {
    fn tint(self, colour: Color) -> Style {
        if self.colours { Style::new().fg(colour) } else { Style::new() }
    }

    fn bad(self) -> Style {
        self.tint(Color::Red).add_modifier(Modifier::BOLD)
    }

    fn of_state(self, state: &str) -> Style {
        match state {
            "running" | "ready" => self.tint(Color::Green),
            "busy" | "starting" => self.tint(Color::Cyan),
            "stopped" | "draining" | "stopping" => self.tint(Color::Yellow),
            "disabled" => self.bad(),
            _ => Style::new().add_modifier(Modifier::DIM),
        }
    }
}

pub(super) fn draw(frame: &mut Frame<'_>, model: &Model, looks: Looks) {
    let area = frame.area();
    let details = if model.expanded { Constraint::Fill(4) } else { Constraint::Fill(2) };
    let parts = [Constraint::Length(2), Constraint::Fill(3), details, Constraint::Length(1), Constraint::Length(1)];
    let [head, apps, details, note, hints] = Layout::vertical(parts).areas(area);
    draw_head(frame, head, model, looks);
    draw_apps(frame, apps, model, looks);
    draw_details(frame, details, model, looks);
    frame.render_widget(note_line(model, looks), note);
    frame.render_widget(Line::styled(hints_of(model), Style::new().add_modifier(Modifier::DIM)), hints);
    if model.mode == Mode::Help {
        draw_help(frame, area);
    }
}

fn draw_head(frame: &mut Frame<'_>, area: Rect, model: &Model, looks: Looks) {
    let bold = Style::new().add_modifier(Modifier::BOLD);
    let mut first = match model.status() {
        None => Line::styled("hatchery: no answer yet", bold),
        Some(Status { version, max, count, active, waiting, uptime_s, .. }) => Line::from(vec![
            Span::styled(format!("hatchery {version}"), bold),
            Span::raw(format!("  up {}  {count} of {max} workers  {active} active  ", span(*uptime_s))),
            Span::styled(
                format!("{waiting} waiting"),
                if *waiting > 0 { looks.tint(Color::Yellow).add_modifier(Modifier::BOLD) } else { Style::new() },
            ),
        ]),
    };
    if let Some((why, seconds)) = model.absence() {
        let text = format!("  POOL LOST for {}: {}", span(seconds), printable(why));
        first = Line::styled(format!("hatchery{text}"), looks.bad());
    }
    let rows = model.rows();
    let known = model.status().map_or(0, |status| status.apps.len());
    let filter = if model.filter.is_empty() && model.mode != Mode::Filter {
        String::new()
    } else {
        format!("  filter: {}{}", printable(&model.filter), if model.mode == Mode::Filter { "_" } else { "" })
    };
    let order = if model.reversed { " (reversed)" } else { "" };
    let sum: f64 = rows.iter().filter_map(|row| row.history).map(|history| history.rate()).sum();
    let second = format!(
        "{} of {known} applications  {sum:.1} requests/s  sorted by {}{order}{filter}",
        rows.len(),
        model.sort.title(),
    );
    frame.render_widget(Paragraph::new(vec![first, Line::raw(second)]), area);
}

fn draw_apps(frame: &mut Frame<'_>, area: Rect, model: &Model, looks: Looks) {
    let rows = model.rows();
    let fixed: u16 = FIGURES.iter().map(|width| width + 1).sum();
    let left = area.width.saturating_sub(fixed);
    let longest = rows.iter().map(|row| row.app.name.chars().count()).max().unwrap_or(0);
    let longest = u16::try_from(longest).unwrap_or(u16::MAX).max(SHORTEST_NAME);
    // Names have what curves leave, and curves a share of what is there.
    let curve = (left.saturating_sub(longest.min(left * 2 / 3) + 2) / 2).min(WIDEST_CURVE);
    let name = left.saturating_sub(2 * (curve + 1));
    let widths = [name].into_iter().chain(FIGURES).chain([curve, curve]);
    let shown = rows.iter().map(|row| of_app(row, curve.into(), looks));
    let titles = Column::ALL.iter().map(|column| {
        let style = Style::new().add_modifier(if *column == model.sort { Modifier::REVERSED } else { Modifier::BOLD });
        Span::styled(column.title(), style)
    });
    let curves = ["requests", "queue"].map(|title| Span::styled(title, Style::new().add_modifier(Modifier::BOLD)));
    let table = Table::new(shown, widths.map(Constraint::Length))
        .column_spacing(1)
        .header(TableRow::new(titles.chain(curves)))
        .row_highlight_style(selection(model.pane == Pane::Apps));
    frame.render_stateful_widget(table, area, &mut TableState::default().with_selected(model.place()));
}

fn selection(here: bool) -> Style {
    if here { Style::new().add_modifier(Modifier::REVERSED) } else { Style::new().add_modifier(Modifier::UNDERLINED) }
}

fn of_app(row: &Row<'_>, curve: usize, looks: Looks) -> TableRow<'static> {
    let Row { app, history } = row;
    let (rate, cpu) = history.map_or((0.0, 0.0), |history| (history.rate(), history.cpu_percent()));
    let curves = history.map(|history| (history.rates(curve, MINUTE), history.queue(curve, MINUTE)));
    let (rates, queue) = curves.unwrap_or_default();
    let waiting = if app.waiting > 0 { looks.tint(Color::Yellow) } else { Style::new() };
    TableRow::new([
        Span::raw(printable(&app.name)),
        Span::styled(app.state.clone(), looks.of_state(&app.state)),
        Span::raw(format!("{:>4}", app.workers.len())),
        Span::raw(format!("{:>4}", active(row))),
        Span::styled(format!("{:>5}", app.waiting), waiting),
        Span::raw(format!("{rate:>7.1}")),
        Span::raw(format!("{:>7}", memory((app.memory_bytes > 0).then_some(app.memory_bytes)))),
        Span::raw(format!("{cpu:>6.1}")),
        Span::styled(rates, looks.tint(Color::Green)),
        Span::styled(queue, looks.tint(Color::Yellow)),
    ])
}

fn draw_details(frame: &mut Frame<'_>, area: Rect, model: &Model, looks: Looks) {
    let row = model.selected();
    let title = row.map_or_else(|| " nothing is selected ".to_owned(), |row| format!(" {} ", printable(&row.app.root)));
    let block = Block::new().borders(Borders::TOP).title(title);
    let inside = block.inner(area);
    frame.render_widget(block, area);
    let Some(row) = row else { return };
    let about = about(&row, inside.width.into(), looks);
    let height = u16::try_from(about.len()).unwrap_or(u16::MAX);
    let [above, below] = Layout::vertical([Constraint::Length(height), Constraint::Fill(1)]).areas(inside);
    frame.render_widget(Paragraph::new(about), above);
    let lines = model.lines();
    let widths = [Constraint::Fill(1)];
    let entries = lines.iter().map(|entry| TableRow::new([of_entry(entry, looks)]));
    let table = Table::new(entries, widths).row_highlight_style(selection(model.pane == Pane::Details));
    let place = if model.pane == Pane::Details { model.place_of_detail() } else { None };
    frame.render_stateful_widget(table, below, &mut TableState::default().with_selected(place));
}

/// What is wrong with the selected app, and its curves.
fn about(row: &Row<'_>, width: usize, looks: Looks) -> Vec<Line<'static>> {
    let app = row.app;
    let mut lines = Vec::new();
    if let Some(disabled) = &app.disabled {
        let retry = disabled.retry_in_s.map(|retry| format!("; the next try in {}", span(retry))).unwrap_or_default();
        lines.push(Line::styled(format!("disabled: {}{retry}", printable(&disabled.why)), looks.bad()));
    }
    if let Some(restart) = &app.restart {
        let report = restart.report.as_deref().and_then(|report| report.lines().next()).unwrap_or_default();
        let text = format!("restart to generation {}: {} {}", restart.generation, restart.state, printable(report));
        let style = if restart.state == "failed" { looks.bad() } else { looks.tint(Color::Cyan) };
        lines.push(Line::styled(text, style));
    }
    if let Some(failure) = &app.failure {
        lines.push(Line::styled(format!("the last start failed: {}", printable(&failure.problem)), looks.bad()));
    }
    if let Some(limit) = app.limit.as_ref().filter(|_| app.waiting > 0) {
        let longest = app.oldest_wait_s.map(|wait| format!(" for {}", span(wait))).unwrap_or_default();
        lines.push(Line::styled(format!("{} wait{longest}, held by {limit}", app.waiting), looks.tint(Color::Yellow)));
    }
    if let Some(history) = row.history {
        let titles = [
            format!("requests/s, at most {:.1} ", history.highest_rate()),
            format!("queue, at most {:.0} ", history.longest_queue()),
        ];
        let pad = titles.iter().map(String::len).max().unwrap_or(0);
        let room = width.saturating_sub(pad);
        let curves = [history.rates(room, ALL), history.queue(room, ALL)];
        for ((title, curve), colour) in titles.into_iter().zip(curves).zip([Color::Green, Color::Yellow]) {
            let title = format!("{title:<pad$}");
            lines.push(Line::from(vec![Span::raw(title), Span::styled(curve, looks.tint(colour))]));
        }
    }
    lines
}

fn of_entry(entry: &Entry<'_>, looks: Looks) -> Line<'static> {
    match entry {
        Entry::Worker(worker) => Line::from(vec![
            Span::raw(format!("worker {}  pid {}  ", worker.id, worker.pid)),
            Span::styled(worker.state.clone(), looks.of_state(&worker.state)),
            Span::raw(format!(
                "  generation {}  {} served  {}  cpu {}  up {}{}",
                worker.generation,
                worker.served,
                memory(worker.memory_bytes),
                worker.cpu_s.map_or_else(|| "-".into(), span),
                span(worker.uptime_s),
                worker.idle_s.map(|idle| format!("  idle {}", span(idle))).unwrap_or_default(),
            )),
        ]),
        Entry::Session(_, session) => {
            let doing = session.doing.as_deref().map(printable).unwrap_or_default();
            Line::raw(format!("  session {}  for {}  {doing}", session.id, span(session.age_s)))
        }
    }
}

fn note_line(model: &Model, looks: Looks) -> Line<'static> {
    if let Mode::Confirm { question, .. } = &model.mode {
        return Line::styled(printable(question), Style::new().add_modifier(Modifier::REVERSED));
    }
    match &model.note {
        None => Line::default(),
        Some(note) => Line::styled(printable(&note.text), if note.bad { looks.bad() } else { Style::new() }),
    }
}

fn hints_of(model: &Model) -> &'static str {
    match model.mode {
        Mode::Confirm { .. } => "y does it, any other key does not",
        Mode::Filter => "type a part of a name, root, state or tenant; Enter keeps the filter, Esc drops it",
        Mode::Normal | Mode::Help => "r restart  x stop  d disable  e end session  / filter  s sort  ? help  q quit",
    }
}

fn draw_help(frame: &mut Frame<'_>, area: Rect) {
    let height = u16::try_from(HELP.len() + 2).unwrap_or(u16::MAX).min(area.height);
    let place = Rect { height, y: area.y + (area.height - height) / 2, ..area };
    frame.render_widget(Clear, place);
    let block = Block::new().borders(Borders::TOP | Borders::BOTTOM).title(" keys ");
    frame.render_widget(Paragraph::new(HELP.map(Line::raw).to_vec()).block(block), place);
}

#[cfg(test)]
mod tests {
    use super::super::model::Key;
    use super::super::model::tests::{app, some, status};
    use super::*;
    use ratatui::Terminal;
    use ratatui::backend::TestBackend;

    fn drawn(model: &Model, width: u16, height: u16) -> Vec<String> {
        let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
        terminal.draw(|frame| draw(frame, model, Looks { colours: true })).unwrap();
        let buffer = terminal.backend().buffer();
        let row = |y| (0..width).map(|x| buffer[(x, y)].symbol()).collect::<String>().trim_end().to_owned();
        (0..height).map(row).collect()
    }

    fn line<'a>(lines: &'a [String], word: &str) -> &'a str {
        lines.iter().find(|line| line.contains(word)).unwrap_or_else(|| panic!("{word} is not in {lines:#?}"))
    }

    #[test]
    fn everything_has_its_place_in_a_small_terminal() {
        let mut model = some();
        model.key(Key::Down);
        let lines = drawn(&model, 80, 24);
        assert!(lines[0].starts_with("hatchery 1.0.0  up 1m30s  3 of 6 workers  1 active  2 waiting"), "{lines:#?}");
        assert!(lines[1].contains("3 of 3 applications  50.0 requests/s  sorted by NAME"), "{lines:#?}");
        let title = line(&lines, "REQ/S");
        assert!(title.starts_with("NAME") && title.contains("CPU%") && title.contains("queue"), "{lines:#?}");
        let shop = line(&lines, "shop");
        for word in ["running", "50.0", "20.0M", "500.0", "█"] {
            assert!(shop.contains(word), "{word} is not in {shop}");
        }
        assert!(line(&lines, " /srv/shop ").ends_with('─'));
        assert!(line(&lines, "requests/s, at most 50.0").ends_with('█'));
        assert!(line(&lines, "worker 61").contains("busy"));
        assert!(line(&lines, "session 18").contains("for 1m15s  GET /18"));
        assert!(lines[23].starts_with("r restart") && lines[23].ends_with("q quit"), "{lines:#?}");
    }

    #[test]
    fn questions_notes_help_and_a_lost_pool_are_seen() {
        let mut model = some();
        model.key(Key::Char('R'));
        assert!(drawn(&model, 80, 24)[22].starts_with("restart (kill) api? its open requests are ended (y/n)"));
        model.key(Key::Char('n'));
        assert_eq!(drawn(&model, 80, 24)[22], "restart (kill) of api: not done");
        model.key(Key::Char('?'));
        let help = drawn(&model, 80, 24);
        assert!(help.iter().any(|line| line.contains(" keys ")) && help.iter().any(|line| line == "any key: back"));
        model.key(Key::Esc);
        model.lost("the pool is gone".into(), 3.0);
        model.lost("the pool is gone".into(), 8.0);
        assert!(drawn(&model, 80, 24)[0].contains("POOL LOST for 5.0s: the pool is gone"));
        model.key(Key::Char('/'));
        model.key(Key::Char('w'));
        assert!(drawn(&model, 80, 24)[1].ends_with("filter: w_"));
        assert!(drawn(&Model::new(), 80, 24)[0].contains("no answer yet"));
    }

    #[test]
    fn any_size_can_be_drawn() {
        let mut model = some();
        for key in [Key::Down, Key::Tab, Key::Enter, Key::Char('?'), Key::Esc, Key::Char('R')] {
            model.key(key);
            for (width, height) in [(1, 1), (2, 5), (20, 4), (40, 10), (80, 24), (250, 80)] {
                drawn(&model, width, height);
            }
        }
    }

    #[test]
    fn a_long_list_scrolls_with_the_selection() {
        let mut model = Model::new();
        let apps: Vec<_> = (0..1000).map(|number| app(&format!("app{number:04}"), "idle", 1, &[])).collect();
        model.seen(status(&apps), 0.0);
        model.key(Key::End);
        line(&drawn(&model, 80, 24), "app0999 ");
    }

    #[test]
    fn what_others_wrote_commands_no_terminal() {
        let mut model = Model::new();
        let mut hostile = app("shop", "disabled", 1, &[(1, 2.0)]);
        hostile["workers"][0]["open"][0]["doing"] = "GET /\u{1b}[2J\u{7}".into();
        hostile["disabled"] = serde_json::json!({ "why": "\u{1b}]0;owned\u{7}", "retry_in_s": null });
        model.seen(status(&[hostile]), 0.0);
        assert!(drawn(&model, 80, 24).iter().all(|line| !line.contains(char::is_control)));
    }
}
