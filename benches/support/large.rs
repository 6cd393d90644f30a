//! A module of any size, written byte by byte: functions that the compiler has to work for, and what a guest must export.

/// A module of about `size` bytes.
pub fn module(size: usize) -> Vec<u8> {
    let body = body();
    let count = (size / (body.len() + 4)).max(1) as u32;
    let mut module = b"\0asm\x01\0\0\0".to_vec();
    // (i32) -> i32 for all but `ping`, which is () -> i64.
    section(&mut module, 1, b"\x02\x60\x01\x7f\x01\x7f\x60\x00\x01\x7e");
    let mut functions = number(count + 1);
    functions.extend(std::iter::repeat_n(0, count as usize));
    functions.push(1);
    section(&mut module, 3, &functions);
    section(&mut module, 5, b"\x01\x00\x01");
    let mut exports = b"\x03\x06memory\x02\x00\x05alloc\x00\x00\x04ping\x00".to_vec();
    exports.extend(number(count));
    section(&mut module, 7, &exports);
    let mut code = number(count + 1);
    for index in 0..count {
        // The first instruction's constant makes each function another one.
        let mut one = b"\x00\x20\x00\x41".to_vec();
        one.extend(number(index & 0x1fff_ffff));
        one.push(0x6a);
        one.extend(&body);
        code.extend(number(one.len() as u32));
        code.extend(one);
    }
    code.extend(b"\x04\x00\x42\x00\x0b");
    section(&mut module, 10, &code);
    module
}

/// Loads, stores, branches and arithmetic on the value on the stack.
fn body() -> Vec<u8> {
    let mut body = Vec::new();
    for round in 0..48u8 {
        // x = (x * k) ^ (x >> 7); if x & 1 { x += mem[x & 0xfff8] } ; mem[8 * round] = x
        body.extend([0x21, 0x00, 0x20, 0x00, 0x41, 3 + (round & 31), 0x6c, 0x20, 0x00, 0x41, 7, 0x76, 0x73, 0x22, 0x00]);
        body.extend([0x41, 1, 0x71, 0x04, 0x7f, 0x20, 0x00, 0x41, 0xf8, 0x1f, 0x71, 0x28, 0x02, 0x00, 0x20, 0x00, 0x6a]);
        body.extend([0x05, 0x20, 0x00, 0x0b, 0x21, 0x00, 0x41, 8 * (round & 7), 0x20, 0x00, 0x36, 0x02, 0x00, 0x20, 0x00]);
    }
    body.push(0x0b);
    body
}

fn section(module: &mut Vec<u8>, id: u8, content: &[u8]) {
    module.push(id);
    module.extend(number(content.len() as u32));
    module.extend(content);
}

/// An LEB128.
fn number(mut value: u32) -> Vec<u8> {
    let mut bytes = Vec::new();
    while value >= 0x80 {
        bytes.push(value as u8 | 0x80);
        value >>= 7;
    }
    bytes.push(value as u8);
    bytes
}
