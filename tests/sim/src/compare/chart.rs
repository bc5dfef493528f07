//! The comparison as bars, with a whisker of one standard deviation to each side.

use anyhow::Result;
use byway_sim::Kind;
use plotters::coord::Shift;
use plotters::prelude::*;

use super::{Figure, Measure, Protocol};

const SIZE: (u32, u32) = (1_000, 840);
/// What is drawn, in the order of reading.
const PANELS: [(Measure, &str); 6] = [
    (Measure::First, "stretch of the first frame (1 is the shortest way)"),
    (Measure::Settled, "stretch of a settled conversation"),
    (Measure::Repair, "repair after 5 % have died, s"),
    (Measure::Kept, "payloads kept in the 10 s from then on, %"),
    (Measure::Quiet, "control of an idle node, B/s"),
    (Measure::Lookup, "frames for each lookup"),
];

const fn colour(protocol: Protocol) -> RGBColor {
    match protocol {
        Protocol::Grove => RGBColor(0x09, 0x69, 0xda),
        Protocol::SingleTree => RGBColor(0xbc, 0x4c, 0x00),
        Protocol::Beacon => RGBColor(0x8c, 0x95, 0x9f),
    }
}

/// A picture in SVG, of the largest networks among the figures.
pub(super) fn draw(figures: &[Figure]) -> Result<String> {
    let largest = figures.iter().map(|figure| figure.nodes).max();
    let figures: Vec<&Figure> = figures.iter().filter(|figure| Some(figure.nodes) == largest).collect();
    let mut svg = String::new();
    {
        let root = SVGBackend::with_string(&mut svg, SIZE).into_drawing_area();
        root.fill(&WHITE)?;
        for (area, (measure, title)) in root.split_evenly((3, 2)).iter().zip(PANELS) {
            let shown: Vec<&Figure> =
                figures.iter().copied().filter(|figure| figure.measure == measure).collect();
            panel(area, title, &shown)?;
        }
        root.present()?;
    }
    Ok(svg)
}

fn panel(area: &DrawingArea<SVGBackend<'_>, Shift>, title: &str, figures: &[&Figure]) -> Result<()> {
    let most = figures.iter().map(|figure| figure.mean + figure.spread).fold(f64::MIN_POSITIVE, f64::max);
    let mut chart = ChartBuilder::on(area)
        .caption(title, ("sans-serif", 15))
        .margin(10)
        .x_label_area_size(24)
        .y_label_area_size(48)
        .build_cartesian_2d(-0.5..Kind::ALL.len() as f64 - 0.5, 0.0..most * 1.1)?;
    let name = |at: &f64| {
        let nearest = at.round();
        let kind = Kind::ALL.get(nearest as usize).filter(|_| (at - nearest).abs() < 1e-6 && nearest >= 0.0);
        kind.map_or_else(String::new, |kind| kind.name().to_owned())
    };
    chart
        .configure_mesh()
        .disable_x_mesh()
        .light_line_style(TRANSPARENT)
        .x_labels(2 * Kind::ALL.len() + 1)
        .x_label_formatter(&name)
        .label_style(("sans-serif", 12))
        .draw()?;
    const WIDTH: f64 = 0.26;
    for (place, protocol) in Protocol::ALL.into_iter().enumerate() {
        let mine: Vec<(f64, &Figure)> = figures
            .iter()
            .filter(|figure| figure.protocol == protocol)
            .filter_map(|figure| {
                let at = Kind::ALL.iter().position(|kind| kind.name() == figure.topology)?;
                Some((at as f64 + (place as f64 - 1.0) * WIDTH, *figure))
            })
            .collect();
        if mine.is_empty() {
            continue;
        }
        let colour = colour(protocol);
        let half = WIDTH * 0.45;
        chart
            .draw_series(mine.iter().map(|(at, figure)| {
                Rectangle::new([(at - half, 0.0), (at + half, figure.mean)], colour.filled())
            }))?
            .label(protocol.name())
            .legend(move |(x, y)| Rectangle::new([(x, y - 5), (x + 10, y + 5)], colour.filled()));
        chart.draw_series(mine.iter().map(|(at, figure)| {
            let low = (figure.mean - figure.spread).max(0.0);
            ErrorBar::new_vertical(
                *at,
                low,
                figure.mean,
                figure.mean + figure.spread,
                BLACK.stroke_width(1),
                6,
            )
        }))?;
    }
    if !figures.is_empty() {
        chart
            .configure_series_labels()
            .position(SeriesLabelPosition::UpperRight)
            .background_style(WHITE.mix(0.8))
            .label_font(("sans-serif", 12))
            .draw()?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bar_stands_for_each_figure() {
        let figure = |protocol, mean| Figure {
            protocol,
            topology: "grid",
            nodes: 100,
            measure: Measure::Repair,
            values: vec![mean],
            mean,
            spread: 0.5,
        };
        let bars = |figures: &[Figure]| draw(figures).expect("it is drawn").matches("<rect").count();
        let (one, two) = (figure(Protocol::Grove, 1.0), figure(Protocol::SingleTree, 5.0));
        // A bar and its key in the legend.
        assert_eq!(bars(&[one.clone(), two]), bars(&[one]) + 2);
        assert!(draw(&[]).is_ok_and(|picture| picture.ends_with("</svg>\n") || picture.ends_with("</svg>")));
    }
}
