//! The plot: what more callers do to throughput, to the wait and to the cost of a payment.

use anyhow::{Result, anyhow};
use plotters::{
    coord::Shift,
    prelude::{
        ChartBuilder, Circle, DrawingArea, IntoDrawingArea, IntoLogRange, LineSeries, RGBColor,
        SVGBackend, WHITE,
    },
    style::Color,
};

use super::{payers::Scheme, report::Report};

const SIZE: (u32, u32) = (960, 340);
const SPLIT: RGBColor = RGBColor(0, 104, 181);
const EXACT: RGBColor = RGBColor(200, 80, 20);
const PANELS: [&str; 3] = ["payments a second", "median wait, ms", "lamports a payment"];

type Panel<'a> = DrawingArea<SVGBackend<'a>, Shift>;

/// Draws a report.
pub fn svg(report: &Report) -> Result<String> {
    let mut text = String::new();
    let drawn = draw(report, &mut text);
    drawn.map_err(|error| anyhow!("drawing: {error}"))?;
    Ok(text)
}

fn draw(report: &Report, text: &mut String) -> Result<(), Box<dyn std::error::Error>> {
    let series = [
        (Scheme::Split, SPLIT, report.series(Scheme::Split)),
        (Scheme::Exact, EXACT, report.series(Scheme::Exact)),
    ];
    let root = SVGBackend::with_string(text, SIZE).into_drawing_area();
    root.fill(&WHITE)?;
    for (i, panel) in root.split_evenly((1, PANELS.len())).iter().enumerate() {
        draw_panel(panel, i, &series)?;
    }
    root.present()?;
    Ok(())
}

type Series = (Scheme, RGBColor, Vec<(f64, [f64; 3])>);

fn draw_panel(
    panel: &Panel<'_>,
    which: usize,
    series: &[Series],
) -> Result<(), Box<dyn std::error::Error>> {
    let points =
        |line: &Series| -> Vec<(f64, f64)> { line.2.iter().map(|(x, y)| (*x, y[which])).collect() };
    let all: Vec<(f64, f64)> = series.iter().flat_map(points).collect();
    let most = |of: fn(&(f64, f64)) -> f64| all.iter().map(of).fold(1.0, f64::max);
    let (right, top) = (most(|point| point.0), most(|point| point.1));
    let mut chart = ChartBuilder::on(panel)
        .caption(PANELS[which], ("sans-serif", 16))
        .margin(12)
        .x_label_area_size(34)
        .y_label_area_size(54)
        .build_cartesian_2d((1f64..right * 1.1).log_scale(), 0f64..top * 1.1)?;
    chart
        .configure_mesh()
        .x_desc("callers at once")
        .x_label_formatter(&|x| format!("{x:.0}"))
        .y_label_formatter(&|y| format!("{y:.0}"))
        .light_line_style(WHITE)
        .draw()?;
    for line in series {
        let (scheme, colour, _) = line;
        let colour = *colour;
        let points = points(line);
        chart
            .draw_series(LineSeries::new(points.clone(), colour.stroke_width(2)))?
            .label(scheme.name())
            .legend(move |(x, y)| Circle::new((x + 8, y), 4, colour.filled()));
        chart.draw_series(
            points
                .into_iter()
                .map(|at| Circle::new(at, 3, colour.filled())),
        )?;
    }
    if which == 0 {
        chart
            .configure_series_labels()
            .position(plotters::prelude::SeriesLabelPosition::UpperLeft)
            .background_style(WHITE)
            .draw()?;
    }
    Ok(())
}
