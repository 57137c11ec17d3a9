//! The chart: the ratio of each workload to its limit, with a mark for the bar and a line at the limit.

use std::fmt::Write as _;

use crate::row::Row;

const LEFT: f64 = 330.0;
const WIDTH: f64 = 430.0;
const LINE: f64 = 20.0;
const TOP: f64 = 58.0;
/// The ratio at the right edge.
const MOST: f64 = 1.25;

/// Colours that are legible on a white and on a black background.
const STYLE: &str = "\
  <style>
    text { font: 12px system-ui, sans-serif; fill: #24292f }
    .quiet { fill: #6e7781 } .line { stroke: #6e7781 }
    .sqlite { fill: #2f81f7 } .postgres { fill: #8957e5 }
    .bar { stroke: #d1242f; stroke-width: 2 }
    @media (prefers-color-scheme: dark) { text { fill: #e6edf3 } .quiet { fill: #8d96a0 } }
  </style>\n";

/// Draws the rows whose bar is a share of L.
pub fn draw(rows: &[Row]) -> String {
    let mut drawn: Vec<&Row> = rows
        .iter()
        .filter(|row| row.bar.as_ref().is_some_and(|bar| bar.at_least))
        .collect();
    // The rows of both databases are adjacent, at the position of the first of them.
    let workloads: Vec<String> = drawn.iter().map(|row| label(row)).collect();
    drawn.sort_by_key(|row| workloads.iter().position(|work| *work == label(row)));
    let bottom = TOP + LINE * drawn.len() as f64;
    let (width, height) = (LEFT + WIDTH + 60.0, bottom + 34.0);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" \
         width=\"{width}\" height=\"{height}\" role=\"img\">\n{STYLE}\
         <text x=\"10\" y=\"20\">How much of its limit each work reaches; the red mark is the \
         bar</text>\n\
         <rect class=\"sqlite\" x=\"10\" y=\"32\" width=\"10\" height=\"10\"/>\
         <text x=\"26\" y=\"41\">SQLite</text>\n\
         <rect class=\"postgres\" x=\"80\" y=\"32\" width=\"10\" height=\"10\"/>\
         <text x=\"96\" y=\"41\">PostgreSQL</text>\n"
    );
    for (index, row) in drawn.iter().enumerate() {
        let (Some(ratio), Some(bar)) = (row.ratio, &row.bar) else {
            continue;
        };
        let y = TOP + LINE * index as f64;
        let x = |ratio: f64| LEFT + WIDTH * ratio.clamp(0.0, MOST) / MOST;
        let (long, end, mark) = (x(ratio.median) - LEFT, x(ratio.median) + 6.0, x(bar.value));
        let (name, class) = (escaped(&label(row)), &row.database);
        let _ = writeln!(
            svg,
            "<text x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">{name}</text>\
             <rect class=\"{class}\" x=\"{LEFT}\" y=\"{:.1}\" width=\"{long:.1}\" height=\"13\"/>\
             <line class=\"bar\" x1=\"{mark:.1}\" x2=\"{mark:.1}\" y1=\"{:.1}\" y2=\"{:.1}\"/>\
             <text x=\"{:.1}\" y=\"{:.1}\">{:.2}</text>",
            LEFT - 8.0,
            y + 11.0,
            y,
            y - 2.0,
            y + 15.0,
            end.max(mark + 6.0),
            y + 11.0,
            ratio.median,
        );
    }
    for tenth in [0, 5, 10] {
        let x = LEFT + WIDTH * f64::from(tenth) / 10.0 / MOST;
        let label = match tenth {
            10 => "L",
            5 => "½ L",
            _ => "0",
        };
        let _ = writeln!(
            svg,
            "<line class=\"line\" x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"{}\" y2=\"{bottom}\" \
             stroke-dasharray=\"2 3\"/><text class=\"quiet\" x=\"{x:.1}\" y=\"{}\" \
             text-anchor=\"middle\">{label}</text>",
            TOP - 6.0,
            bottom + 18.0,
        );
    }
    svg.push_str("</svg>\n");
    svg
}

/// The workload and the number of leads.
fn label(row: &Row) -> String {
    let leads = match row.leads {
        leads if leads.is_multiple_of(1_000_000) => format!("{} M", leads / 1_000_000),
        leads if leads.is_multiple_of(1_000) => format!("{} k", leads / 1_000),
        leads => leads.to_string(),
    };
    format!("{}, {leads} leads", row.work)
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;")
}
