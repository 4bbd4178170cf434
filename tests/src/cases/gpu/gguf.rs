//! A tiny model of llama's architecture with random weights, as llama.cpp reads it: GGUF, version 3
//! (ggml's docs/gguf.md). Always the same one, by a generator of our own.

/// Layers, and so `blk.N` of every tensor in one.
const LAYERS: u32 = 4;
/// Width of a state.
const WIDTH: u64 = 256;
/// Width of the feed-forward part.
const FORWARD: u64 = 512;
/// Heads of attention, and those of keys and values.
const HEADS: u32 = 8;
const KEY_HEADS: u32 = 4;
/// Words of the vocabulary behind the special tokens and the 256 bytes.
const WORDS: u64 = 253;
/// The first of them.
const FIRST_WORD: u64 = 3 + 256;
const VOCABULARY: u64 = FIRST_WORD + WORDS;

/// Where tensors may start.
const ALIGNMENT: usize = 32;

/// Types of metadata (`gguf_type`).
const U32: u32 = 4;
const I32: u32 = 5;
const F32: u32 = 6;
const STRING: u32 = 8;
const ARRAY: u32 = 9;

/// Types of tensors (`ggml_type`): numbers of single and of half precision. With coarser ones the
/// backends round the other factor differently, and two words may be too close for that.
const SINGLE: u32 = 0;
const HALF: u32 = 1;

/// Sign and fraction of a half-precision number.
const SIGN_AND_FRACTION: u16 = 0x83ff;
/// Exponents: numbers of an amount from 1/16 to 1/8, and from 1 to 2.
const SMALL: u16 = 0x2c00;
const LARGE: u16 = 0x3c00;

/// What the tokens are (`llama_token_type`).
const NORMAL: u32 = 1;
const UNKNOWN: u32 = 2;
const CONTROL: u32 = 3;
const BYTE: u32 = 6;

/// The file's bytes.
pub(crate) fn model() -> Vec<u8> {
    let mut tensors = Tensors::new();
    let key_width = WIDTH / u64::from(HEADS) * u64::from(KEY_HEADS);
    tensors.random("token_embd.weight", WIDTH, VOCABULARY, LARGE);
    for layer in 0..LAYERS {
        let name = |part: &str| format!("blk.{layer}.{part}.weight");
        tensors.ones(&name("attn_norm"));
        tensors.random(&name("attn_q"), WIDTH, WIDTH, SMALL);
        tensors.random(&name("attn_k"), WIDTH, key_width, SMALL);
        tensors.random(&name("attn_v"), WIDTH, key_width, SMALL);
        tensors.random(&name("attn_output"), WIDTH, WIDTH, SMALL);
        tensors.ones(&name("ffn_norm"));
        tensors.random(&name("ffn_gate"), WIDTH, FORWARD, SMALL);
        tensors.random(&name("ffn_up"), WIDTH, FORWARD, SMALL);
        tensors.random(&name("ffn_down"), FORWARD, WIDTH, SMALL);
    }
    tensors.ones("output_norm.weight");
    tensors.output("output.weight");

    let metadata = metadata();
    let mut file = b"GGUF".to_vec();
    file.extend(3_u32.to_le_bytes());
    file.extend(tensors.count.to_le_bytes());
    file.extend(metadata.count.to_le_bytes());
    file.extend(metadata.bytes);
    file.extend(tensors.descriptions);
    file.resize(file.len().next_multiple_of(ALIGNMENT), 0);
    file.extend(tensors.data);
    file
}

fn metadata() -> Metadata {
    let mut metadata = Metadata::default();
    metadata.text("general.architecture", "llama");
    for (key, value) in [
        ("llama.context_length", 256),
        ("llama.embedding_length", number(WIDTH)),
        ("llama.block_count", LAYERS),
        ("llama.feed_forward_length", number(FORWARD)),
        ("llama.attention.head_count", HEADS),
        ("llama.attention.head_count_kv", KEY_HEADS),
        ("llama.vocab_size", number(VOCABULARY)),
        ("tokenizer.ggml.unknown_token_id", 0),
        ("tokenizer.ggml.bos_token_id", 1),
        ("tokenizer.ggml.eos_token_id", 2),
    ] {
        metadata.key(key, U32);
        metadata.bytes.extend(value.to_le_bytes());
    }
    metadata.key("llama.attention.layer_norm_rms_epsilon", F32);
    metadata.bytes.extend(1e-5_f32.to_le_bytes());
    metadata.text("tokenizer.ggml.model", "llama");

    let special = [("<unk>", UNKNOWN), ("<s>", CONTROL), ("</s>", CONTROL)];
    let special = special.map(|(word, kind)| (word.to_owned(), kind));
    let bytes = (0..=255_u8).map(|byte| (format!("<0x{byte:02X}>"), BYTE));
    let words = (0..WORDS).map(|word| (format!("\u{2581}w{word}"), NORMAL));
    let tokens: Vec<_> = special.into_iter().chain(bytes).chain(words).collect();
    metadata.array("tokenizer.ggml.tokens", STRING, tokens.len());
    for (word, _) in &tokens {
        string(&mut metadata.bytes, word);
    }
    metadata.array("tokenizer.ggml.scores", F32, tokens.len());
    for _ in &tokens {
        metadata.bytes.extend(0_f32.to_le_bytes());
    }
    metadata.array("tokenizer.ggml.token_type", I32, tokens.len());
    for (_, kind) in &tokens {
        metadata.bytes.extend(kind.to_le_bytes());
    }
    metadata
}

fn number(width: u64) -> u32 {
    u32::try_from(width).unwrap_or(u32::MAX)
}

fn string(bytes: &mut Vec<u8>, text: &str) {
    bytes.extend((text.len() as u64).to_le_bytes());
    bytes.extend(text.as_bytes());
}

/// Keys and values.
#[derive(Default)]
struct Metadata {
    bytes: Vec<u8>,
    count: u64,
}

impl Metadata {
    fn key(&mut self, key: &str, kind: u32) {
        string(&mut self.bytes, key);
        self.bytes.extend(kind.to_le_bytes());
        self.count += 1;
    }

    fn text(&mut self, key: &str, value: &str) {
        self.key(key, STRING);
        string(&mut self.bytes, value);
    }

    fn array(&mut self, key: &str, kind: u32, length: usize) {
        self.key(key, ARRAY);
        self.bytes.extend(kind.to_le_bytes());
        self.bytes.extend((length as u64).to_le_bytes());
    }
}

/// Tensors: what describes them, and their data.
struct Tensors {
    descriptions: Vec<u8>,
    data: Vec<u8>,
    count: u64,
    random: u64,
}

impl Tensors {
    fn new() -> Self {
        Self {
            descriptions: Vec::new(),
            data: Vec::new(),
            count: 0,
            random: 0x9e37_79b9_7f4a_7c15,
        }
    }

    fn describe(&mut self, name: &str, dimensions: &[u64], kind: u32) {
        self.data
            .resize(self.data.len().next_multiple_of(ALIGNMENT), 0);
        string(&mut self.descriptions, name);
        self.descriptions
            .extend(number(dimensions.len() as u64).to_le_bytes());
        for dimension in dimensions {
            self.descriptions.extend(dimension.to_le_bytes());
        }
        self.descriptions.extend(kind.to_le_bytes());
        self.descriptions
            .extend((self.data.len() as u64).to_le_bytes());
        self.count += 1;
    }

    /// The factors of a normalisation.
    fn ones(&mut self, name: &str) {
        self.describe(name, &[WIDTH], SINGLE);
        for _ in 0..WIDTH {
            self.data.extend(1_f32.to_le_bytes());
        }
    }

    /// A matrix of random numbers with this exponent.
    fn random(&mut self, name: &str, columns: u64, rows: u64, exponent: u16) {
        self.describe(name, &[columns, rows], HALF);
        self.numbers(columns * rows, exponent);
    }

    /// The matrix that turns a state into words. No other token is ever the likeliest.
    fn output(&mut self, name: &str) {
        self.describe(name, &[WIDTH, VOCABULARY], HALF);
        let zeros = FIRST_WORD * WIDTH;
        self.data.extend((0..zeros).flat_map(|_| [0, 0]));
        self.numbers(WORDS * WIDTH, SMALL);
    }

    fn numbers(&mut self, count: u64, exponent: u16) {
        for _ in 0..count {
            // xorshift64.
            self.random ^= self.random << 13;
            self.random ^= self.random >> 7;
            self.random ^= self.random << 17;
            let [low, high, ..] = self.random.to_le_bytes();
            let number = u16::from_le_bytes([low, high]) & SIGN_AND_FRACTION | exponent;
            self.data.extend(number.to_le_bytes());
        }
    }
}
