// Scaled dot-product attention and its gradient without the matrix of scores in memory.
//
//   s[q, j] = scale Q[q] . K[j] (+ bias), -1e30 where masked       y[q] = sum_j p[q, j] V[j]
//   p[q, j] = e^(s[q, j] - m[q]) / l[q],  m[q] = max_j s[q, j],  l[q] = sum_j e^(s[q, j] - m[q])
//   D[q] = dy[q] . y[q],  dp[q, j] = dy[q] . V[j],  ds = p (dp - D), 0 where masked
//   dQ = scale ds K     dK = scale ds^T Q     dV = p^T dy
//
// Keys come in blocks; m and l of a query are corrected from block to block (online softmax:
// Milakov and Gimelshein, 2018; tiled attention: Dao et al., 2022). m and 1 / l are kept for the
// gradient, which computes p again: two numbers per query, and the very bits of the forward pass.
//
// Layout. Q [B, T, N, H], K [B, S, M, H], V [B, S, M, E] as layers have them, M a divisor of N;
// blocks of them are copied next to each other, so no stride of the whole tensors reaches a
// product. Scores are kept transposed: a row per key, queries in the lanes. So maxima, sums and
// corrections are vertical, and what one product writes is what the next one reads: s^T = K Q^T,
// y^T += V^T p^T, dp^T = V dy^T, dQ^T += K^T ds^T have queries in the lanes, dV += p^T dy and
// dK += ds^T Q features. One register kernel does all seven: rows of its left operand are scalars
// at any two strides.
//
// float16 and bfloat16 are widened as blocks are copied and rounded as results are stored; scores,
// probabilities and sums are float. Where pairs of bfloat16 are fast, the two products of operands
// that were stored (K Q^T and V dy^T) are sums of pairs, which loses nothing: their products are
// exact in float. p and ds stay float.
//
// Masks. For each tile the span of keys that any of its queries may see is found (from the causal
// order and by OR over the mask's bytes); products run over the span alone. A query that sees no
// key at all attends to all keys alike, as softmax says of equal scores: its tiles are added in a
// second pass (forward) or not skipped (gradient, which knows it by m).
//
// Split. Forward: a task for each (batch, head, up to 128 queries). Gradient: a task for each
// (batch, key head, part of the key blocks), which owns its dK and dV; the parts' dQ are summed in
// order. There are several parts only where batch and heads alone make few tasks. All by sizes:
// bits do not depend on threads.
//
// Floor: 2 T S (H + E) operations forward and 2 T S (3 H + 2 E) backward at the multiply-add peak,
// each half where causal. Measured on one Zen 5 core, share of the level's peak (forward,
// backward):
//   T = S =  128, H = 64     AVX-512 72, 67 %    AVX2 73, 70 %
//   T = S =  256, H = 128            79, 77 %         80, 80 %
//   T = S = 2048, H = 64             75, 75 %
// The rest is exponentials (an eighth of the work at H = 64) and the edges of register tiles.
// Memory of a causal step at T = 2048, 8 heads of 64: 37 MiB, 305 MiB with stored scores.
#include <float.h>

#include "ops/attention_product.h"
#include "ops/rowwise.h"

HB_KERNELS_BEGIN

constexpr int kLane = kLanes<float>;
constexpr int64_t kBlock = 128;           // most keys of a block, queries of a group
constexpr int64_t kWideTile = 2 * kLane;  // queries of a tile
constexpr int64_t kFewTasks = 8;
// A masked score. Not quite -1e30, which a bias may hold: such a score has a gradient.
constexpr float kMasked = -0.999999e30f;

static HB_INLINE int64_t ceil_of(int64_t a, int64_t b) { return (a + b - 1) / b; }
static HB_INLINE int64_t round_to(int64_t a, int64_t b) { return ceil_of(a, b) * b; }
static HB_INLINE int64_t least(int64_t a, int64_t b) { return a < b ? a : b; }

// ---------------------------------------------------------------------- products

// Rows of equally high panels of m rows.
static int64_t panel_rows(int64_t m) {
  return m == 0 ? 1 : ceil_of(m, ceil_of(m, int64_t(kMaxRows)));
}
// m rows, `lanes` columns (a multiple of kLane).
template <class E>
static ProductKernel<E> kernel_for(int64_t rows, bool wide) {
  if constexpr (kPerElement<E> == 2)
    return find_pair_product(rows, wide);
  else
    return find_product<E>(rows, wide);
}
template <class E>
static void multiply(Product<E> p, int64_t m, int64_t lanes) {
  const int64_t height = panel_rows(m);
  const E* b = p.b;
  float* c = p.c;
  for (int64_t i = 0; i < m; i += height) {
    const int64_t rows = least(height, m - i);
    const ProductKernel<E> wide = kernel_for<E>(rows, true);
    for (int64_t j = 0; j < lanes; j += 2 * kLane) {
      p.b = b + j;
      p.c = c + i * p.ldc + j;
      (lanes - j > kLane ? wide : kernel_for<E>(rows, false))(p);
    }
    p.a += height * p.rs;
  }
}

// e^x of x <= 0 (or NaN), to 1.5 ulp; 0 below -87.
HB_INLINE Vec<float> exp_of_negative(Vec<float> x) {
  const auto far = x < -87.f;
  const ExpReduced<float> e = exp_reduce<float>(far ? splat(-87.f) : x);
  const Vec<float> y = (1.f + (e.r + e.r * e.r * exp_tail(e.r))) * vpow2<float>(e.n);
  return far ? Vec<float>{} : y;
}

// Not zero where the byte of the lane is not. (The conversion of gcc 12 goes through scalars.) A
// whole vector is read.
template <class V>
HB_INLINE V lanes_of_bytes(const uint8_t* p) {
  V words, byte;
  memcpy(&words, p, sizeof words);
  const uint8_t order[] = {255, 0, 0, 0, 0, 255, 0, 0, 0, 0, 255, 0, 0, 0, 0, 255};
  for (size_t i = 0; i < sizeof byte; i += sizeof order)
    memcpy(reinterpret_cast<char*>(&byte) + i, order, sizeof order);
  if constexpr (sizeof(V) == 64) {
    words = __builtin_shufflevector(words, words, 0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3);
  } else if constexpr (sizeof(V) == 32) {
    words = __builtin_shufflevector(words, words, 0, 0, 0, 0, 1, 1, 1, 1);
  } else {
    words = __builtin_shufflevector(words, words, 0, 0, 0, 0);
  }
  return words & byte;
}

// ---------------------------------------------------------------------- what both passes share

// A mask or bias, broadcast to [B, N, T, S].
struct Extra {
  int input = -1;
  int64_t batch = 0, head = 0, query = 0, key = 0;  // strides, 0 where broadcast
};

// Keys [lo, hi) of a block that some query of a tile may see; `all`: every query sees each of them.
struct Span {
  int64_t lo, hi;
  bool all;
};

struct Tile4 {  // of batch b and head n: queries [q, q + nq), keys [s, s + ns)
  int64_t b, n, q, nq, s, ns;
};

// Whether products of two operands of S can be made of pairs of bfloat16: exact ones.
template <class S>
constexpr bool kExactPairs = HB_VEC_BYTES == 64 && sizeof(S) == 2 && __is_same(S, bf16);

// Operands stored as S.
template <class S>
struct AttentionShape {
  int64_t batch, queries, keys, heads, key_heads, group, h, e;
  int64_t tile;           // queries of a tile: lanes
  int64_t width, groups;  // queries of a group
  int64_t block, blocks;  // keys of a block
  float scale;
  bool causal;
  bool pairs;  // scores, and dy V^T, are sums of products of pairs
  Extra bias, mask;

  // `first`: the first input that may be a bias or a mask.
  AttentionShape(const Prepare& p, int first, int last) {
    const TensorSpec &q = p.inputs[0], &k = p.inputs[1], &v = p.inputs[2];
    if (q.rank != 4 || k.rank != 4 || v.rank != 4) fail("query, key and value of rank 4");
    batch = q.shape[0], queries = q.shape[1], heads = q.shape[2], h = q.shape[3];
    keys = k.shape[1], key_heads = k.shape[2], e = v.shape[3];
    if (k.shape[0] != batch || v.shape[0] != batch || v.shape[1] != keys ||
        v.shape[2] != key_heads || k.shape[3] != h || key_heads < 1 || heads % key_heads ||
        k.dtype != q.dtype || v.dtype != q.dtype)
      fail("query, key and value that fit together");
    if (!(batch && queries && keys && h && e)) fail("no empty operands");
    group = heads / key_heads;
    scale = float(attr_float(*p.attrs, "scale"));
    causal = attr_int(*p.attrs, "causal") != 0;
    for (int i = first; i < last; ++i) {
      const TensorSpec& x = p.inputs[i];
      Extra& extra = x.dtype == DType::Bool ? mask : bias;
      if (x.dtype != DType::Bool && x.dtype != q.dtype)
        fail("a bias of their dtype, a boolean mask");
      const int64_t full[] = {batch, heads, queries, keys};
      int64_t* strides[] = {&extra.batch, &extra.head, &extra.query, &extra.key};
      if (x.rank != 4) fail("bias and mask of rank 4");
      int64_t stride = 1;
      for (int d = 3; d >= 0; --d) {
        if (x.shape[d] != 1 && x.shape[d] != full[d]) fail("bias and mask that can be broadcast");
        *strides[d] = x.shape[d] == 1 ? 0 : stride;
        stride *= x.shape[d];
      }
      extra.input = i;
    }
    pairs = kExactPairs<S> && has_bf16_pairs() && h % 2 == 0 && e % 2 == 0;
    tile = queries <= kLane ? kLane : kWideTile;
    width = round_to(ceil_of(queries, ceil_of(queries, kBlock)), tile);
    groups = ceil_of(queries, width);
    block = ceil_of(keys, ceil_of(keys, kBlock));
    blocks = ceil_of(keys, block);
  }
  const S* query(const Call& c, int64_t b, int64_t n, int64_t t) const {
    return static_cast<const S*>(c.inputs[0]) + ((b * queries + t) * heads + n) * h;
  }
  const S* key(const Call& c, int64_t b, int64_t n, int64_t s) const {
    return static_cast<const S*>(c.inputs[1]) + ((b * keys + s) * key_heads + n) * h;
  }
  const S* value(const Call& c, int64_t b, int64_t n, int64_t s) const {
    return static_cast<const S*>(c.inputs[2]) + ((b * keys + s) * key_heads + n) * e;
  }
  // Floats of scratch that `add_extras` needs.
  int64_t extra_floats() const { return block * tile + kLane; }

  Span span(const Call& c, const Tile4& t) const {
    Span r{0, t.ns, true};
    if (causal) {
      r.hi = least(t.ns, t.q + t.nq - t.s);
      if (r.hi <= 0) return {0, 0, true};
      r.all = t.s + r.hi - 1 <= t.q;
    }
    if (mask.input < 0) return r;
    const uint8_t* m = static_cast<const uint8_t*>(c.inputs[mask.input]) + t.b * mask.batch +
                       t.n * mask.head + t.q * mask.query + t.s * mask.key;
    const int64_t rows = mask.query ? t.nq : 1;
    if (mask.key == 0) {
      uint8_t any = 0, all = 1;
      for (int64_t i = 0; i < rows; ++i) any |= m[i * mask.query], all &= m[i * mask.query];
      return any ? Span{0, r.hi, r.all && all} : Span{0, 0, true};
    }
    uint8_t any[kBlock] = {}, all[kBlock];
    memset(all, 1, sizeof all);
    for (int64_t i = 0; i < rows; ++i) {
      const uint8_t* row = m + i * mask.query;
      for (int64_t j = 0; j < r.hi; ++j) any[j] |= row[j], all[j] &= row[j];
    }
    while (r.hi > r.lo && !any[r.hi - 1]) --r.hi;
    while (r.lo < r.hi && !any[r.lo]) ++r.lo;
    for (int64_t j = r.lo; j < r.hi; ++j) r.all = r.all && all[j];
    return r;
  }

  // Adds the bias to the scores of a span and masks them; s: row of key 0 of the block.
  void add_extras(const Call& c, const Tile4& t, const Span& r, float* s, int64_t lds,
                  float* scratch, const void** rows) const {
    const int64_t n = r.hi - r.lo;
    s += r.lo * lds;
    if (bias.input >= 0) {
      const S* x = static_cast<const S*>(c.inputs[bias.input]) + t.b * bias.batch +
                   t.n * bias.head + t.q * bias.query + (t.s + r.lo) * bias.key;
      if (bias.query && bias.key) {
        transpose_rows(scratch, tile, x, bias.query, t.nq, n, rows);
      } else if (bias.query) {
        for (int64_t i = 0; i < tile; ++i) scratch[i] = i < t.nq ? widen(x[i * bias.query]) : 0.f;
      }
      for (int64_t j = 0; j < n; ++j) {
        const float* row = scratch + (bias.key ? j * tile : 0);
        for (int64_t i = 0; i < tile; i += kLane) {
          float* p = s + j * lds + i;
          store(p, load(p) + (bias.query ? load(row + i) : splat(widen(x[j * bias.key]))));
        }
      }
    }
    if (r.all) return;
    if (causal && t.s + r.hi - 1 > t.q) {
      Vec<int32_t> lane;
      for (int i = 0; i < kLane; ++i) lane[i] = i;
      for (int64_t j = 0; j < n; ++j) {
        const int64_t first = t.s + r.lo + j - t.q;  // the first query of the tile that sees it
        for (int64_t i = 0; i < tile && i < first; i += kLane) {
          float* p = s + j * lds + i;
          store(p, lane + int32_t(i) < int32_t(least(first, tile)) ? splat(kMasked) : load(p));
        }
      }
    }
    if (mask.input < 0) return;
    const uint8_t* x = static_cast<const uint8_t*>(c.inputs[mask.input]) + t.b * mask.batch +
                       t.n * mask.head + t.q * mask.query + (t.s + r.lo) * mask.key;
    uint8_t* bytes = reinterpret_cast<uint8_t*>(scratch);  // [n][tile rounded up to 16]
    const int64_t ld = round_to(tile, 16);
    if (mask.query && mask.key) {
      transpose_bytes(bytes, ld, x, mask.query, t.nq, n);
    } else if (mask.query) {
      for (int64_t i = 0; i < tile; ++i) bytes[i] = i < t.nq ? x[i * mask.query] : 0;
    }
    for (int64_t j = 0; j < n; ++j) {
      const uint8_t* row = bytes + (mask.key ? j * ld : 0);
      for (int64_t i = 0; i < tile; i += kLane) {
        float* p = s + j * lds + i;
        if (mask.query) {
          const Vec<int32_t> keep = lanes_of_bytes<Vec<int32_t>>(row + i);
          store(p, keep != 0 ? load(p) : splat(kMasked));
        } else if (!x[j * mask.key]) {
          store(p, splat(kMasked));
        }
      }
    }
  }

  // to[j ld + i] = from[i stride + j] for i < n, zero up to ld; j < m. In squares of 16.
  static void transpose_bytes(uint8_t* to, int64_t ld, const uint8_t* from, int64_t stride,
                              int64_t n, int64_t m) {
    typedef uint8_t Bytes __attribute__((vector_size(16)));
    for (int64_t i = 0; i < ld; i += 16) {
      for (int64_t j = 0; j < m; j += 16) {
        const int64_t count = least(16, m - j);
        Bytes r[16];
#pragma GCC unroll 16
        for (int k = 0; k < 16; ++k) {
          r[k] = Bytes{};
          if (i + k >= n) continue;
          const uint8_t* p = from + (i + k) * stride + j;
          if (count == 16)
            memcpy(&r[k], p, 16);
          else
            memcpy(&r[k], p, size_t(count));
        }
        transpose(r);
        for (int64_t k = 0; k < count; ++k) memcpy(to + (j + k) * ld + i, &r[k], 16);
      }
    }
  }

  // Rows of features next to each other.
  static void copy_rows(float* to, int64_t ld, const S* from, int64_t stride, int64_t rows,
                        int64_t n) {
    for (int64_t i = 0; i < rows; ++i) {
      widen_row(from + i * stride, to + i * ld, n);
      for (int64_t j = n; j < ld; ++j) to[i * ld + j] = 0;
    }
  }
  // to[j ld + i] = from[i stride + j] for i < rows, j < n; zero for rows <= i < ld. Up to kLane
  // floats behind are overwritten.
  template <class E, class F>
  static void transpose_rows(E* to, int64_t ld, const F* from, int64_t stride, int64_t rows,
                             int64_t n, const void** pointers) {
    const F** p = reinterpret_cast<const F**>(pointers);
    for (int64_t i = 0; i < rows; ++i) p[i] = from + i * stride;
    pack_rows<E, F>(to, int(ld), p, int(rows), n, n);
  }

  // The operands of `dots`: rows of keys (or values), and columns of queries (or of dy), of n
  // features; as float, or as pairs of features, which take half the room. Queries are scaled, if
  // they are not pairs.
  void pack_left(float* to, const S* from, int64_t stride, int64_t rows, int64_t n) const {
    if (!pairs) return copy_rows(to, n, from, stride, rows, n);
    for (int64_t i = 0; i < rows; ++i)
      memcpy(reinterpret_cast<S*>(to) + i * n, from + i * stride, size_t(n) * sizeof(S));
  }
  void pack_right(float* to, const S* from, int64_t stride, int64_t rows, int64_t n,
                  const void** pointers) const {
    if (!pairs) return transpose_rows(to, width, from, stride, rows, n, pointers);
    if constexpr (kExactPairs<S>)
      transpose_rows(reinterpret_cast<Pair*>(to), width, reinterpret_cast<const Pair*>(from),
                     stride / 2, rows, n / 2, pointers);
  }
  void pack_queries(float* to, const S* from, int64_t rows, const void** pointers) const {
    pack_right(to, from, heads * h, rows, h, pointers);
    for (int64_t i = 0; !pairs && i < h * width; i += kLane) store(to + i, load(to + i) * scale);
  }
  // c[j ldc + i] = left[j] . right[q + i] for the keys j of a span, the queries i of a tile.
  void dots(const float* left, const float* right, int64_t n, int64_t q, const Span& r, float* c,
            int64_t ldc) const {
    const int64_t rows = r.hi - r.lo;
    c += r.lo * ldc;
    if constexpr (kExactPairs<S>) {
      if (pairs) {
        const Pair* a = reinterpret_cast<const Pair*>(left) + r.lo * (n / 2);
        const Pair* b = reinterpret_cast<const Pair*>(right) + q;
        return multiply<Pair>({a, n / 2, 1, b, width, c, ldc, n / 2, false}, rows, tile);
      }
    }
    multiply<float>({left + r.lo * n, n, 1, right + q, width, c, ldc, n, false}, rows, tile);
  }
  // Scores before bias and mask.
  void scores(const float* k, const float* qt, int64_t q, const Span& r, float* s,
              int64_t lds) const {
    dots(k, qt, h, q, r, s, lds);
    for (int64_t j = r.lo; pairs && j < r.hi; ++j)
      for (int64_t i = 0; i < tile; i += kLane)
        store(s + j * lds + i, load(s + j * lds + i) * scale);
  }
};

// Cuts a piece of memory into arrays that start at cache lines.
struct Cutter {
  char* base;
  size_t used = 0;
  template <class T>
  T* cut(int64_t count) {
    T* p = reinterpret_cast<T*>(base + used);
    used += (size_t(count) * sizeof(T) + 63) / 64 * 64;
    return p;
  }
};

// ---------------------------------------------------------------------- forward

// inputs: query, key, value, bias?, mask?; outputs: y [B, T, N, E], (m, 1 / l) [B, N, T, 2].
template <class S>
struct Attention {
  AttentionShape<S> z;
  size_t worker_bytes;

  struct Worker {
    float *k, *v, *s, *extra, *qt, *yt, *m, *l, *rows_out;
    const void** rows;
    Worker(const AttentionShape<S>& z, Cutter& c) {
      k = c.cut<float>(z.block * z.h);
      v = c.cut<float>(z.block * z.e);
      s = c.cut<float>(z.block * z.tile);
      extra = c.cut<float>(z.extra_floats());
      qt = c.cut<float>(z.h * z.width + kLane);
      yt = c.cut<float>(z.e * z.width);
      m = c.cut<float>(z.width);
      l = c.cut<float>(z.width);
      rows_out = c.cut<float>(z.tile * z.e + kLane);
      rows = c.cut<const void*>(kBlock + z.tile + z.e);
    }
  };

  explicit Attention(Prepare& p) : z(p, 3, p.num_inputs) {
    Cutter c{nullptr};
    Worker(z, c);
    worker_bytes = c.used;
    p.scratch_bytes = worker_bytes * size_t(num_threads());
  }

  void run(const Call& c) const {
    parallel_for(z.batch * z.heads * z.groups, [&](int64_t task, int worker) {
      Cutter cutter{static_cast<char*>(c.scratch) + size_t(worker) * worker_bytes};
      const int64_t g = task % z.groups, n = task / z.groups % z.heads;
      group(c, Worker(z, cutter), task / z.groups / z.heads, n, g * z.width);
    });
  }

  void group(const Call& c, const Worker& w, int64_t b, int64_t n, int64_t q0) const {
    const int64_t count = least(z.width, z.queries - q0), tiles = ceil_of(count, z.tile);
    bool begun[kBlock / kLane + 2] = {}, skipped[kBlock / kLane + 2] = {};
    z.pack_queries(w.qt, z.query(c, b, n, q0), count, w.rows);
    for (int64_t i = 0; i < z.width; ++i) w.m[i] = -FLT_MAX, w.l[i] = 0;
    const auto each_tile = [&](const auto& f) __attribute__((always_inline)) {
      for (int64_t s0 = 0; s0 < z.keys; s0 += z.block) {
        const int64_t ns = least(z.block, z.keys - s0);
        bool copied = false;
        for (int64_t i = 0; i < tiles; ++i) {
          const int64_t q = i * z.tile;
          const Tile4 t{b, n, q0 + q, least(z.tile, count - q), s0, ns};
          f(t, i, z.span(c, t), [&] {
            if (copied) return;
            copied = true;
            const int64_t kv = n / z.group;
            z.pack_left(w.k, z.key(c, b, kv, s0), z.key_heads * z.h, ns, z.h);
            z.copy_rows(w.v, z.e, z.value(c, b, kv, s0), z.key_heads * z.e, ns, z.e);
          });
        }
      }
    };
    each_tile([&](const Tile4& t, int64_t i, const Span& r, const auto& copy) {
      skipped[i] |= r.lo > 0 || r.hi < t.ns;
      if (r.lo == r.hi) return;
      copy();
      z.scores(w.k, w.qt, i * z.tile, r, w.s, z.tile);
      z.add_extras(c, t, r, w.s, z.tile, w.extra, w.rows);
      absorb(w, i * z.tile, r.lo, r.hi, begun[i]);
    });
    bool second = false;
    for (int64_t i = 0; i < tiles; ++i) {
      bool blind = false;  // some query saw no key
      for (int64_t q = i * z.tile; q < least(count, (i + 1) * z.tile); ++q)
        blind |= w.m[q] <= kMasked;
      skipped[i] = skipped[i] && blind;
      second |= skipped[i];
    }
    if (second) {
      each_tile([&](const Tile4& t, int64_t i, const Span& r, const auto& copy) {
        if (!skipped[i] || (r.lo == 0 && r.hi == t.ns)) return;
        copy();
        for (int64_t j = 0; j < t.ns * z.tile; ++j) w.s[j] = kMasked;
        if (r.lo > 0) absorb(w, i * z.tile, 0, r.lo, begun[i]);
        if (r.hi < t.ns) absorb(w, i * z.tile, r.hi, t.ns, begun[i]);
      });
    }
    S* y = static_cast<S*>(c.outputs[0]) + ((b * z.queries + q0) * z.heads + n) * z.e;
    float* stats = static_cast<float*>(c.outputs[1]) + ((b * z.heads + n) * z.queries + q0) * 2;
    for (int64_t q = 0; q < count; q += z.tile) {
      for (int64_t i = q; i < q + z.tile; i += kLane) {
        const Vec<float> inverse = 1.f / load(w.l + i);
        store(w.l + i, inverse);
        for (int64_t j = 0; j < z.e; ++j) {
          float* p = w.yt + j * z.width + i;
          store(p, load(p) * inverse);
        }
      }
      z.transpose_rows(w.rows_out, z.e, w.yt + q, z.width, z.e, z.tile, w.rows);
      for (int64_t i = q; i < least(count, q + z.tile); ++i) {
        narrow_row(w.rows_out + (i - q) * z.e, y + i * z.heads * z.e, z.e);
        stats[2 * i] = w.m[i];
        stats[2 * i + 1] = w.l[i];
      }
    }
  }

  // Takes the scores of keys [lo, hi) into m, l and y^T of the tile at query q.
  void absorb(const Worker& w, int64_t q, int64_t lo, int64_t hi, bool& begun) const {
    for (int64_t i = 0; i < z.tile; i += kLane) {
      float* s = w.s + i;
      const Vec<float> before = load(w.m + q + i);
      Vec<float> m = before, m2 = before;  // a NaN is lost here, but not in the sum
      int64_t j = lo;
      for (; j + 1 < hi; j += 2) {
        const Vec<float> x = load(s + j * z.tile), x2 = load(s + (j + 1) * z.tile);
        m = x > m ? x : m;
        m2 = x2 > m2 ? x2 : m2;
      }
      if (j < hi) {
        const Vec<float> x = load(s + j * z.tile);
        m = x > m ? x : m;
      }
      m = m > m2 ? m : m2;
      Vec<float> sum{};
      for (j = lo; j < hi; ++j) {
        const Vec<float> p = exp_of_negative(load(s + j * z.tile) - m);
        store(s + j * z.tile, p);
        sum += p;
      }
      const Vec<float> factor = exp_of_negative(before - m);
      store(w.l + q + i, load(w.l + q + i) * factor + sum);
      store(w.m + q + i, m);
      bool same = true;
      for (int k = 0; k < kLane; ++k) same = same && before[k] == m[k];
      if (begun && !same) {
        for (int64_t k = 0; k < z.e; ++k) {
          float* p = w.yt + k * z.width + q + i;
          store(p, load(p) * factor);
        }
      }
    }
    multiply<float>(
        {w.v + lo * z.e, 1, z.e, w.s + lo * z.tile, z.tile, w.yt + q, z.width, hi - lo, begun}, z.e,
        z.tile);
    begun = true;
  }
};
typedef Attention<float> AttentionF32;
typedef Attention<f16> AttentionF16;
typedef Attention<bf16> AttentionBF16;
HB_CPU_KERNEL(attention, AttentionF32, kF32)
HB_CPU_KERNEL(attention, AttentionF16, kF16)
HB_CPU_KERNEL(attention, AttentionBF16, kBF16)

// ---------------------------------------------------------------------- gradient

// inputs: query, key, value, bias?, mask?, y, (m, 1 / l), dy; outputs: dQ, dK, dV.
template <class S>
struct AttentionGrad {
  // y is rounded, and so would D be: where one block holds all keys, D = sum_j p[j] dp[j].
  static constexpr bool kOwnSums = sizeof(S) < sizeof(float);
  AttentionShape<S> z;
  int at_y;  // the input that is y
  int64_t parts, part_blocks, hp, ep;
  size_t worker_bytes, dq_floats;

  struct Worker {
    float *k, *v, *p, *ds, *extra, *qt, *dyt, *q, *dy, *dk, *dv, *d, *dqt;
    float* left;  // the keys as operands of `dots`: k, if they are not pairs
    const void** rows;
    int64_t* packed;  // the (head, group) that q, qt, dy and dyt hold
    Worker(const AttentionGrad& g, Cutter& c) {
      const AttentionShape<S>& z = g.z;
      k = c.cut<float>(z.block * z.h);
      left = z.pairs ? c.cut<float>(z.block * z.h / 2) : k;
      v = c.cut<float>(z.block * z.e);
      p = c.cut<float>(z.block * z.width);
      ds = c.cut<float>(z.block * z.width);
      extra = c.cut<float>(z.extra_floats());
      qt = c.cut<float>(z.h * z.width + kLane);
      dyt = c.cut<float>(z.e * z.width + kLane);
      q = c.cut<float>(z.width * g.hp);
      dy = c.cut<float>(z.width * g.ep);
      dk = c.cut<float>(z.block * g.hp);
      dv = c.cut<float>(z.block * g.ep);
      d = c.cut<float>(z.group * z.groups * z.width * 3);  // D, m and 1 / l of each query
      rows = c.cut<const void*>(kBlock + z.width + z.h);
      packed = c.cut<int64_t>(1);
      dqt = g.parts == 1 ? c.cut<float>(int64_t(g.dq_floats)) : nullptr;
    }
  };

  explicit AttentionGrad(Prepare& p) : z(p, 3, p.num_inputs - 3), at_y(p.num_inputs - 3) {
    hp = round_to(z.h, kLane), ep = round_to(z.e, kLane);
    parts = least(z.blocks, ceil_of(kFewTasks, z.batch * z.key_heads));
    part_blocks = ceil_of(z.blocks, parts);
    parts = ceil_of(z.blocks, part_blocks);
    dq_floats = size_t(round_to(z.group * z.groups * z.h * z.width, 16));
    Cutter c{nullptr};
    Worker(*this, c);
    worker_bytes = c.used;
    p.scratch_bytes = worker_bytes * size_t(num_threads()) + shared_dq_bytes();
  }
  size_t shared_dq_bytes() const {
    return parts == 1 ? 0 : size_t(parts * z.batch * z.key_heads) * dq_floats * sizeof(float);
  }

  void run(const Call& c) const {
    char* workers = static_cast<char*>(c.scratch) + shared_dq_bytes();
    float* shared = static_cast<float*>(c.scratch);
    parallel_for(z.batch * z.key_heads * parts, [&](int64_t task, int worker) {
      Cutter cutter{workers + size_t(worker) * worker_bytes};
      Worker w(*this, cutter);
      if (parts > 1) w.dqt = shared + size_t(task) * dq_floats;
      const int64_t b = task / parts / z.key_heads, kv = task / parts % z.key_heads;
      const int64_t first = task % parts * part_blocks;
      part(c, w, b, kv, first * z.block, least(z.keys, (first + part_blocks) * z.block));
      if (parts == 1) {
        for (int64_t i = 0; i < z.group * z.groups; ++i) write_dq(c, w, b, kv, i, w.dqt);
      }
    });
    if (parts == 1) return;
    const int64_t each = z.group * z.groups, size = z.h * z.width;
    parallel_for(z.batch * z.key_heads * each, [&](int64_t task, int worker) {
      Cutter cutter{workers + size_t(worker) * worker_bytes};
      const Worker w(*this, cutter);
      const int64_t bk = task / each, i = task % each;
      float* sum = shared + size_t(bk * parts) * dq_floats;
      for (int64_t p = 1; p < parts; ++p) {
        const float* x = sum + size_t(p) * dq_floats + i * size;
        for (int64_t j = 0; j < size; j += kLane)
          store(sum + i * size + j, load(sum + i * size + j) + load(x + j));
      }
      write_dq(c, w, bk / z.key_heads, bk % z.key_heads, i, sum);
    });
  }

  // Rows of dQ from dQ^T: of head i / groups of the key head, query group i % groups.
  void write_dq(const Call& c, const Worker& w, int64_t b, int64_t kv, int64_t i,
                const float* dqt) const {
    const int64_t n = kv * z.group + i / z.groups, q0 = i % z.groups * z.width;
    z.transpose_rows(w.qt, z.h, dqt + i * z.h * z.width, z.width, z.h, z.width, w.rows);
    S* dq = static_cast<S*>(c.outputs[0]) + ((b * z.queries + q0) * z.heads + n) * z.h;
    for (int64_t t = 0; t < least(z.width, z.queries - q0); ++t)
      narrow_row(w.qt + t * z.h, dq + t * z.heads * z.h, z.h);
  }

  // The keys [s0, s1) of a key head: their dK and dV, and what they add to dQ^T.
  void part(const Call& c, const Worker& w, int64_t b, int64_t kv, int64_t s0, int64_t s1) const {
    const S* y = static_cast<const S*>(c.inputs[at_y]);
    const float* stats = static_cast<const float*>(c.inputs[at_y + 1]);
    const S* dy = static_cast<const S*>(c.inputs[at_y + 2]);
    const int64_t padded = z.groups * z.width;
    for (int64_t i = 0; i < z.group; ++i) {
      const int64_t n = kv * z.group + i;
      float* d = w.d + i * padded * 3;
      for (int64_t t = 0; t < padded; ++t) {
        d[t] = d[padded + t] = d[2 * padded + t] = 0;
        if (t >= z.queries) continue;
        const int64_t at = ((b * z.queries + t) * z.heads + n) * z.e;
        d[t] = row_sum<float>(z.e, [&](int64_t j, int64_t count) {
          return load_wide(y + at + j, count) * load_wide(dy + at + j, count);
        });
        const float* two = stats + ((b * z.heads + n) * z.queries + t) * 2;
        d[padded + t] = two[0];
        d[2 * padded + t] = two[1];
      }
    }
    memset(w.dqt, 0, dq_floats * sizeof(float));
    *w.packed = -1;
    for (int64_t s = s0; s < s1; s += z.block) {
      const int64_t ns = least(z.block, s1 - s);
      z.copy_rows(w.k, z.h, z.key(c, b, kv, s), z.key_heads * z.h, ns, z.h);
      if (z.pairs) z.pack_left(w.left, z.key(c, b, kv, s), z.key_heads * z.h, ns, z.h);
      z.pack_left(w.v, z.value(c, b, kv, s), z.key_heads * z.e, ns, z.e);
      memset(w.dk, 0, size_t(ns * hp) * sizeof(float));
      memset(w.dv, 0, size_t(ns * ep) * sizeof(float));
      for (int64_t i = 0; i < z.group; ++i) {
        for (int64_t g = 0; g < z.groups; ++g) group(c, w, b, kv, i, g, s, ns);
      }
      S* dk = static_cast<S*>(c.outputs[1]) + ((b * z.keys + s) * z.key_heads + kv) * z.h;
      S* dv = static_cast<S*>(c.outputs[2]) + ((b * z.keys + s) * z.key_heads + kv) * z.e;
      for (int64_t j = 0; j < ns; ++j) {
        narrow_row(w.dk + j * hp, dk + j * z.key_heads * z.h, z.h);
        narrow_row(w.dv + j * ep, dv + j * z.key_heads * z.e, z.e);
      }
    }
  }

  void group(const Call& c, const Worker& w, int64_t b, int64_t kv, int64_t head, int64_t g,
             int64_t s0, int64_t ns) const {
    const int64_t n = kv * z.group + head, q0 = g * z.width, padded = z.groups * z.width;
    const int64_t count = least(z.width, z.queries - q0), tiles = ceil_of(count, z.tile);
    const float *d = w.d + head * padded * 3 + q0, *m = d + padded, *inverse = m + padded;
    Span spans[kBlock / kLane + 2];
    bool any = false, blinds[kBlock / kLane + 2];
    for (int64_t i = 0; i < tiles; ++i) {
      const int64_t q = i * z.tile;
      const Tile4 t{b, n, q0 + q, least(z.tile, count - q), s0, ns};
      spans[i] = z.span(c, t);
      bool& blind = blinds[i] = false;
      for (int64_t k = q; k < q + t.nq; ++k) blind |= m[k] <= kMasked;
      if (blind && !(spans[i].lo == 0 && spans[i].hi == ns && spans[i].all))
        spans[i] = {0, ns, false};
      any |= spans[i].hi > spans[i].lo;
    }
    if (!any) return;
    if (*w.packed != head * z.groups + g) {
      *w.packed = head * z.groups + g;
      const S* q = z.query(c, b, n, q0);
      const S* dy =
          static_cast<const S*>(c.inputs[at_y + 2]) + ((b * z.queries + q0) * z.heads + n) * z.e;
      z.copy_rows(w.q, hp, q, z.heads * z.h, count, z.h);
      z.copy_rows(w.dy, ep, dy, z.heads * z.e, count, z.e);
      z.pack_queries(w.qt, q, count, w.rows);
      z.pack_right(w.dyt, dy, z.heads * z.e, count, z.e, w.rows);
      memset(w.q + count * hp, 0, size_t((z.width - count) * hp) * sizeof(float));
      memset(w.dy + count * ep, 0, size_t((z.width - count) * ep) * sizeof(float));
    }
    float* dqt = w.dqt + (head * z.groups + g) * z.h * z.width;
    for (int64_t i = 0; i < tiles; ++i) {
      const int64_t q = i * z.tile, ld = z.width;
      const Tile4 t{b, n, q0 + q, least(z.tile, count - q), s0, ns};
      const Span& r = spans[i];
      for (int64_t j = 0; j < ns; ++j) {
        if (j == r.lo) j = r.hi;
        if (j >= ns) break;
        memset(w.p + j * ld + q, 0, size_t(z.tile) * sizeof(float));
        memset(w.ds + j * ld + q, 0, size_t(z.tile) * sizeof(float));
      }
      if (r.lo == r.hi) continue;
      const int64_t rows = r.hi - r.lo, at = r.lo * ld + q;
      z.scores(w.left, w.qt, q, r, w.p + q, ld);
      z.add_extras(c, t, r, w.p + q, ld, w.extra, w.rows);
      z.dots(w.v, w.dyt, z.e, q, r, w.ds + q, ld);
      for (int64_t k = q; k < q + z.tile; k += kLane) {
        const Vec<float> mk = load(m + k), lk = load(inverse + k), dk = load(d + k);
        if (kOwnSums && z.blocks == 1 && !blinds[i]) {
          Vec<float> sum{};
          for (int64_t j = r.lo; j < r.hi; ++j) {
            float* pp = w.p + j * ld + k;
            const Vec<float> p = exp_of_negative(load(pp) - mk) * lk;
            store(pp, p);
            sum += p * load(w.ds + j * ld + k);
          }
          for (int64_t j = r.lo; j < r.hi; ++j) {
            float* pd = w.ds + j * ld + k;
            const Vec<float> p = load(w.p + j * ld + k);  // 0 where masked
            store(pd, p == 0.f ? Vec<float>{} : p * (load(pd) - sum) * z.scale);
          }
          continue;
        }
        for (int64_t j = r.lo; j < r.hi; ++j) {
          float *pp = w.p + j * ld + k, *pd = w.ds + j * ld + k;
          const Vec<float> s = load(pp), p = exp_of_negative(s - mk) * lk;
          store(pp, p);
          store(pd, s == kMasked ? Vec<float>{} : p * (load(pd) - dk) * z.scale);
        }
      }
      multiply<float>({w.k + r.lo * z.h, 1, z.h, w.ds + at, ld, dqt + q, ld, rows, true}, z.h,
                      z.tile);
    }
    const int64_t height = panel_rows(ns);
    for (int64_t j = 0; j < ns; j += height) {
      const int64_t rows = least(height, ns - j);
      int64_t first = tiles, last = 0;  // the tiles that see a key of the panel
      for (int64_t i = 0; i < tiles; ++i) {
        if (spans[i].lo < j + rows && spans[i].hi > j) {
          first = least(first, i);
          last = i + 1;
        }
      }
      if (first >= last) continue;
      const int64_t q = first * z.tile, k = last * z.tile - q, at = j * z.width + q;
      multiply<float>({w.p + at, z.width, 1, w.dy + q * ep, ep, w.dv + j * ep, ep, k, true}, rows,
                      ep);
      multiply<float>({w.ds + at, z.width, 1, w.q + q * hp, hp, w.dk + j * hp, hp, k, true}, rows,
                      hp);
    }
  }
};
typedef AttentionGrad<float> AttentionGradF32;
typedef AttentionGrad<f16> AttentionGradF16;
typedef AttentionGrad<bf16> AttentionGradBF16;
HB_CPU_KERNEL(attention_grad, AttentionGradF32, kF32)
HB_CPU_KERNEL(attention_grad, AttentionGradF16, kF16)
HB_CPU_KERNEL(attention_grad, AttentionGradBF16, kBF16)

HB_KERNELS_END
