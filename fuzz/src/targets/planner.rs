//! The dynamic program that cuts dimensions into segments and deals out bits.
//!
//! It is no part of the library's face, so its sources are compiled into this crate as well.

use super::{Memory, Target};
use crate::input::Input;
use crate::{mutate, note};

#[path = "../../../src/quantizer/saq/plan.rs"]
#[allow(dead_code, unreachable_pub)]
mod plan;
#[path = "../../../src/quantizer/saq/scale.rs"]
#[allow(dead_code)]
mod scale;

use plan::{MAX_BITS, PlanInput, Segment, UNCORRECTED};

/// See [`run`].
pub const TARGET: Target = Target {
    name: "planner",
    about: "the plan of SAQ: any variances and budget, against an exhaustive search",
    run,
    seeds: || (0..32).map(|seed| (0..200).map(|i| (seed * i * 37) as u8).collect()).collect(),
    mutate: |data, random, others| mutate::bytes(data, random, &[], others),
    // Tables of 14 numbers of bits by units of dimensions by bytes of the budget.
    memory: Memory { times: 1, bytes: 32 << 20 },
};

/// Plans for the variances and budget that the bytes stand for.
pub fn run(data: &[u8]) {
    let mut input = Input::new(data);
    // Few dimensions are searched exhaustively, many are not.
    let units = match input.below(4) {
        0 | 1 => 1 + input.below(4),
        2 => 1 + input.below(16),
        _ => 1 + input.below(40),
    };
    let dims = units * 8;
    let budget = match input.below(4) {
        0 => input.below(8),
        1 => usize::MAX - input.below(4),
        _ => input.below(dims * 2 + 8),
    };
    let mode = input.below(4);
    let mut number = || match mode {
        // Any magnitude that vectors of f32 may have.
        0 => f64::from(input.any_float()).abs(),
        1 => f64::from(input.byte()),
        2 => f64::from(input.byte() / 64),
        _ => (f64::from(input.byte()) - 200.0).exp2(),
    };
    let mut draw = || Some(number()).filter(|x| x.is_finite()).unwrap_or(0.0);
    let mut variances: Vec<f64> = (0..dims).map(|_| draw()).collect();
    variances.sort_by(|a, b| b.total_cmp(a));
    let near: Vec<f64> = variances
        .iter()
        .enumerate()
        .map(|(i, v)| if i % 7 == 6 { -v } else { v * (i % 5) as f64 / 4.0 })
        .collect();
    let uncorrected = if mode == 1 { 1.0 } else { UNCORRECTED };
    let input = PlanInput { variances: &variances, weights: &variances, near: &near, uncorrected };
    let found = plan::plan(&input, budget);
    note(found.iter().map(|s| (b'a' + s.bits as u8) as char).collect::<String>());

    assert_eq!(found.iter().map(|s| s.dims).sum::<usize>(), dims, "{found:?}");
    assert!(found.windows(2).all(|pair| pair[0].bits > pair[1].bits), "{found:?}");
    assert!(found.iter().all(|s| s.dims > 0 && s.bits <= MAX_BITS), "{found:?}");
    // Nothing fits into no bytes: all dimensions are dropped then.
    let dropped = found.len() == 1 && found[0].bits == 0;
    assert!(bytes(&found) <= budget || dropped, "{found:?} in {budget} bytes");

    let cost = cost(&input, &found);
    assert!(!cost.is_nan(), "{found:?}");
    if units <= 4 {
        let mut least = f64::INFINITY;
        each_plan(units, MAX_BITS + 1, &mut Vec::new(), &mut |plan| {
            if bytes(plan) <= budget {
                least = least.min(self::cost(&input, plan));
            }
        });
        let slack = least * 1e-9 + f64::MIN_POSITIVE;
        assert!(least == f64::INFINITY || cost <= least + slack, "{cost} for {least}: {found:?}");
    }
    if budget < dims * 2 {
        // More bytes never make it worse.
        let more = self::cost(&input, &plan::plan(&input, budget + 1));
        assert!(more <= cost * (1.0 + 1e-9) + f64::MIN_POSITIVE, "{more} for {cost}");
    }
}

/// Bytes of codes and scales: by the document of the format, not by the planner's code.
fn bytes(plan: &[Segment]) -> usize {
    plan.iter().map(|s| s.dims * s.bits as usize / 8 + if s.bits <= 4 { 1 } else { 2 }).sum()
}

/// What the planner minimizes: the expected squared error of an estimate.
fn cost(input: &PlanInput<'_>, plan: &[Segment]) -> f64 {
    let (mut from, mut cost) = (0, 0.0);
    for segment in plan {
        let range = from..from + segment.dims;
        from += segment.dims;
        let part = &input.variances[range.clone()];
        if segment.bits > 0 {
            let sum: f64 = part.iter().sum();
            cost += sum * sum / segment.dims as f64 * plan::error(segment.bits);
        } else {
            let bias = input.uncorrected * input.near[range].iter().sum::<f64>().max(0.0);
            cost += part.iter().map(|v| v * v).sum::<f64>() + bias * bias;
        }
    }
    cost
}

/// Every plan of so many units of 8 dimensions with strictly falling bits below `below`.
fn each_plan(units: usize, below: u32, head: &mut Vec<Segment>, found: &mut dyn FnMut(&[Segment])) {
    if units == 0 {
        found(head);
        return;
    }
    for count in 1..=units {
        // Dropped dimensions are the last.
        for bits in u32::from(count < units)..below {
            head.push(Segment { dims: count * 8, bits });
            each_plan(units - count, bits, head, found);
            head.pop();
        }
    }
}
