// The operands of the matrix-multiply core (gemm.h): what a product is of. *Packers* are functors
// that copy a piece of an operand into packed panels; here those of matrices. Patches of images
// have theirs in conv.h, pairs, bytes and parts of numbers in gemm_pairs.h, gemm_bytes.h and
// gemm_parts.h.
#pragma once
#include "ops/epilogue.h"
#include "ops/gemm_kernel.h"

namespace hb::HB_ISA {
namespace {

HB_INLINE int64_t min64(int64_t a, int64_t b) { return a < b ? a : b; }
HB_INLINE int64_t max64(int64_t a, int64_t b) { return a > b ? a : b; }
HB_INLINE int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }
HB_INLINE int64_t round_up(int64_t a, int64_t b) { return ceil_div(a, b) * b; }

// One of `parts` parts of n rows along k, of kc elements each, ld apart.
template <class S>
HB_INLINE Lines<S> lines_along(const S* data, int64_t ld, int64_t n, int64_t kc, int64_t part,
                               int64_t parts) {
  const int64_t first = kc * part / parts, count = kc * (part + 1) / parts - first;
  int log_rows = 0;
  while (int64_t(1) << log_rows < n) ++log_rows;
  return {data + first, ld, ceil_div(count, kTileCols<S>) << log_rows, log_rows};
}

// ---- packers of matrices --------------------------------------------------------------------
// pack(dst, width, i, n, k, kc): dst[kk * width + r] = operand(i + r, k + kk), where i counts rows
// of A or columns of B, and r >= n is zero.

template <class T, class S>
struct PackMatrix {
  const S* data;
  int64_t ld;
  bool along_k;  // k runs along memory: A row-major, or B given as [N, K]; else across it
  HB_INLINE void pack(T* dst, int width, int64_t i, int n, int64_t k, int64_t kc) const {
    if (!along_k) return pack_cols<T, S>(dst, width, data + k * ld + i, ld, n, kc);
    const S* rows[kMaxPanel<T>];
    for (int r = 0; r < n; ++r) rows[r] = data + (i + r) * ld + k;
    pack_rows<T, S>(dst, width, rows, n, kc, kc, width * ld);
  }
  // Full panels i, i + width, ..., one after another.
  HB_INLINE void pack_panels(T* dst, int width, int64_t panels, int64_t i, int64_t k,
                             int64_t kc) const {
    // A few lines of every row at a time: more would have to wait in too many places.
    const int64_t most = along_k ? 1 : max64(1, 512 / (width * int64_t(sizeof(S))));
    for (int64_t q = 0; q < panels; q += most) {
      if (along_k)
        pack(dst + q * width * kc, width, i + q * width, width, k, kc);
      else
        pack_cols_wide<T, S>(dst + q * width * kc, width, data + k * ld + i + q * width, ld,
                             min64(most, panels - q), kc);
    }
  }
  // One of `parts` parts of rows or columns i .. i + n, elements k .. k + kc, to be fetched.
  Lines<S> lines(int64_t i, int64_t n, int64_t k, int64_t kc, int64_t part, int64_t parts) const {
    if (along_k) return lines_along(data + i * ld + k, ld, n, kc, part, parts);
    const int64_t first = kc * part / parts;
    return {data + (k + first) * ld + i, ld, kc * (part + 1) / parts - first};
  }
  // Element (i, k) of an operand whose vectors along i can be read unpacked, ld apart; else null.
  const T* in_place(int64_t i, int64_t k) const {
    if constexpr (sizeof(T) == sizeof(S))
      if (!along_k) return data + k * ld + i;
    return nullptr;
  }
  // What a packed copy depends on besides the plan (keep_packed).
  void layout(const void* operand, int64_t* words) const {
    words[0] = reinterpret_cast<const char*>(data) - static_cast<const char*>(operand);
    words[1] = ld, words[2] = along_k;
  }
  // The runs of a panel read in place: rows[run][width] point at `length[run]` elements each.
  // Rows past n repeat the first. Returns how many runs there are.
  int64_t read(const T** rows, int64_t* length, int width, int64_t i, int n, int64_t k,
               int64_t kc) const
    requires(sizeof(T) == sizeof(S))
  {
    for (int r = 0; r < width; ++r) rows[r] = data + (i + (r < n ? r : 0)) * ld + k;
    *length = kc;
    return 1;
  }
};

// ---- where C goes ---------------------------------------------------------------------------
// rows(i, n, offset): element offsets of rows i .. i + n of C from its base.
struct PlainRows {
  int64_t ld;
  HB_INLINE void rows(int64_t i, int64_t n, int64_t* offset) const {
    for (int64_t r = 0; r < n; ++r) offset[r] = (i + r) * ld;
  }
};

// One product: operands, and the output with its epilogue. T computes, S is stored.
template <class S, class A, class B, class Rows>
struct Product {
  A a;
  B b;
  S* c;
  Rows rows;
  Epilogue<S> epilogue;
};
template <class S, class A, class B, class Rows>
HB_INLINE Product<S, A, B, Rows> product(A a, B b, S* c, Rows rows,
                                         const Epilogue<S>& epilogue = {}) {
  return {a, b, c, rows, epilogue};
}

template <class P>
struct ElemOf;
template <class S>
struct ElemOf<S*> {
  typedef S type;
};
template <class P>
using Elem = typename ElemOf<P>::type;

// ---- what the core asks of packers ----------------------------------------------------------
// The panels of rows or columns [i, end), one after another.
template <class T, class O>
void pack_panels(const O& operand, T* dst, int width, int64_t i, int64_t end, int64_t k,
                 int64_t kc) {
  if constexpr (requires { operand.pack_panels(dst, width, i, i, k, kc); }) {
    const int64_t full = (end - i) / width;
    operand.pack_panels(dst, width, full, i, k, kc);
    i += full * width, dst += full * width * kc;
  }
  for (; i < end; i += width, dst += width * kc)
    operand.pack(dst, width, i, int(min64(width, end - i)), k, kc);
}

// What a kernel should fetch of rows or columns i .. i + n, if the packer can tell.
template <class T, class O>
HB_INLINE Lines<T> lines_of(const O& operand, int64_t i, int64_t n, int64_t k, int64_t kc,
                            int64_t part, int64_t parts) {
  if constexpr (requires { Lines<T>{operand.lines(i, n, k, kc, part, parts)}; })
    return operand.lines(i, n, k, kc, part, parts);
  return {};
}

}  // namespace
}  // namespace hb::HB_ISA
