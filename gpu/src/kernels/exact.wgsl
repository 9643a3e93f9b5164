// Arithmetic that rounds as the processor does: to nearest, each operation by itself.
//
// Shader compilers may join a product and a sum, and change the order of sums. No compiler joins what it cannot look
// through: `p.zero` is 0, but only the one who runs the shader knows. Quotients and roots, which devices round
// as they like, and conversions of integers are made of integers. All numbers are zero or far within the range of normal floats.

fn kept(x: f32) -> f32 {
    return bitcast<f32>(bitcast<u32>(x) ^ p.zero);
}

fn add(a: f32, b: f32) -> f32 {
    return kept(a + b);
}

fn subtract(a: f32, b: f32) -> f32 {
    return kept(a - b);
}

fn times(a: f32, b: f32) -> f32 {
    return kept(a * b);
}

// The float nearest to an integer of magnitude 2^31 at most.
fn rounded(x: i32) -> f32 {
    let magnitude = u32(abs(x));
    let sum = add(times(f32(magnitude >> 12u), 4096.0), f32(magnitude & 0xfffu));
    return select(sum, -sum, x < 0);
}

// The quotient of positive numbers.
fn quotient(a: f32, b: f32) -> f32 {
    let x = bitcast<u32>(a);
    let y = bitcast<u32>(b);
    var m = (x & 0x7fffffu) | 0x800000u;
    let n = (y & 0x7fffffu) | 0x800000u;
    var exponent = (x >> 23u) + 127u - (y >> 23u);
    if (m < n) {
        m <<= 1u;
        exponent -= 1u;
    }
    // 25 bits, the first of which is set: one more than are kept.
    var bits = 1u;
    var rest = m - n;
    for (var i = 0u; i < 3u; i += 1u) {
        rest <<= 8u;
        bits = (bits << 8u) | (rest / n);
        rest = rest % n;
    }
    let up = (bits & 1u) & (u32(rest != 0u) | ((bits >> 1u) & 1u));
    return bitcast<f32>((exponent << 23u) + ((bits >> 1u) & 0x7fffffu) + up);
}

// The square root of a positive number.
fn root(a: f32) -> f32 {
    let x = bitcast<u32>(a);
    let mantissa = (x & 0x7fffffu) | 0x800000u;
    // Of the exponent without its bias the half, rounded down.
    let exponent = i32(x >> 23u) - 127;
    let odd = u32(exponent & 1);
    // The root of 48 bits, of which all but the first 25 are zero.
    var bits = (mantissa << odd) << 7u;
    var rest = 0u;
    var found = 0u;
    for (var i = 0u; i < 24u; i += 1u) {
        rest = (rest << 2u) | (bits >> 30u);
        bits <<= 2u;
        let more = (found << 2u) | 1u;
        found <<= 1u;
        if (rest >= more) {
            rest -= more;
            found |= 1u;
        }
    }
    let up = u32(rest > found);
    return bitcast<f32>((u32((exponent >> 1u) + 127) << 23u) + (found & 0x7fffffu) + up);
}
