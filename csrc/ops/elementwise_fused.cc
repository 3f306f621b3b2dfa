// Instructions of the tile engine that occur together, done as one: the updates of optimizers, and
// gradients of activations.
//
// A tile that goes through ten functions costs ten trips to the L1 cache; done as one it costs what
// memory costs. Each line of the table is a formula and the same formula in vector code; a program
// is searched for the formulas, larger ones first, so nothing else needs to know of them.
#include "ops/elementwise.h"

namespace hb::HB_ISA {
namespace {

typedef Vec<float> V;

template <int kIn, int kOut, class F>
void fused_tile(void* const* dst, const void* const* src, const int* mask, int n) {
  const float* from[kIn];  // local: a store cannot change them
  float* to[kOut];
  int64_t at[kIn];
  for (int k = 0; k < kIn; ++k) {
    from[k] = (const float*)src[k];
    at[k] = mask[k];
  }
  for (int k = 0; k < kOut; ++k) to[k] = (float*)dst[k];
  V x[kIn], y[kOut];
  int64_t i = 0;
  for (; i + kLanes<float> <= n; i += kLanes<float>) {
    for (int k = 0; k < kIn; ++k) x[k] = load(from[k] + (i & at[k]));
    F{}(x, y);
    for (int k = 0; k < kOut; ++k) store(to[k] + i, y[k]);
  }
  if (i < n) {
    for (int k = 0; k < kIn; ++k) x[k] = load_some(from[k] + (i & at[k]), int(n - i));
    F{}(x, y);
    for (int k = 0; k < kOut; ++k) memcpy(to[k] + i, &y[k], size_t(n - i) * sizeof(float));
  }
}
template <int kIn, int kOut, class F>
constexpr FusedFn fused(const char* formula, F) {
  return {formula, fused_tile<kIn, kOut, F>};
}

constexpr FusedFn kFused[] = {
    // Adam, AdamW
    fused<8, 3>("M = m + (g - m) * a; V = v + (square(g) - v) * b; W = w - M * r / (sqrt(V) + e)",
                [](V (&x)[8], V (&y)[3]) {  // m g a v b w r e
                  y[0] = x[0] + (x[1] - x[0]) * x[2];
                  y[1] = x[3] + (x[1] * x[1] - x[3]) * x[4];
                  y[2] = x[5] - y[0] * x[6] / (vsqrt(y[1]) + x[7]);
                }),
    // SGD with momentum, looking ahead
    fused<5, 2>("M = u * m - g * r; W = w + (u * M - g * r)",
                [](V (&x)[5], V (&y)[2]) {  // u m g r w
                  const V step = x[2] * x[3];
                  y[0] = x[0] * x[1] - step;
                  y[1] = x[4] + (x[0] * y[0] - step);
                }),
    // SGD with momentum
    fused<5, 2>("M = u * m - g * r; W = w + M",
                [](V (&x)[5], V (&y)[2]) {  // u m g r w
                  y[0] = x[0] * x[1] - x[2] * x[3];
                  y[1] = x[4] + y[0];
                }),
    // RMSprop
    fused<7, 2>("S = p * v + q * square(g); W = w - r * g / sqrt(S + e)",
                [](V (&x)[7], V (&y)[2]) {  // p v q g w r e
                  y[0] = x[0] * x[1] + x[2] * (x[3] * x[3]);
                  y[1] = x[4] - x[5] * x[3] / vsqrt(y[0] + x[6]);
                }),
    // Adagrad
    fused<5, 2>("A = a + square(g); W = w - r * g / sqrt(A + e)",
                [](V (&x)[5], V (&y)[2]) {  // a g w r e
                  y[0] = x[0] + x[1] * x[1];
                  y[1] = x[2] - x[3] * x[1] / vsqrt(y[0] + x[4]);
                }),
    // Lion
    fused<6, 1>("W = w - r * sign(a * m + b * g)",
                [](V (&x)[6], V (&y)[1]) {  // w r a m b g
                  const V mean = x[2] * x[3] + x[4] * x[5], one = splat<float>(1.0f);
                  const V sign = mean > 0.0f ? one : (mean < 0.0f ? -one : V{});
                  y[0] = x[0] - x[1] * (mean != mean ? mean : sign);
                }),
    // gradients of GELU
    fused<2, 1>("Y = d * gelu_slope(x)",
                [](V (&x)[2], V (&y)[1]) { y[0] = x[0] * vgelu_slope(x[1]); }),
    fused<2, 1>("Y = d * gelu_tanh_slope(x)",
                [](V (&x)[2], V (&y)[1]) { y[0] = x[0] * vgelu_tanh_slope<float>(x[1]); }),
    // moving averages in their two forms; weight decay and plain descent
    fused<4, 1>("Y = a * x + b * y",
                [](V (&x)[4], V (&y)[1]) { y[0] = x[0] * x[1] + x[2] * x[3]; }),
    fused<3, 1>("Y = x + (y - x) * a",
                [](V (&x)[3], V (&y)[1]) { y[0] = x[0] + (x[1] - x[0]) * x[2]; }),
    fused<2, 1>("Y = x - x * a", [](V (&x)[2], V (&y)[1]) { y[0] = x[0] - x[0] * x[1]; }),
    fused<3, 1>("Y = x - y * a", [](V (&x)[3], V (&y)[1]) { y[0] = x[0] - x[1] * x[2]; }),
    fused<3, 1>("Y = x + y * a", [](V (&x)[3], V (&y)[1]) { y[0] = x[0] + x[1] * x[2]; }),
};
constexpr int kNumFused = int(sizeof kFused / sizeof kFused[0]);
constexpr int kMaxNodes = 32;

// A formula as a tree. Capital letters are results, small ones operands.
struct Node {
  const char* fn;  // null: what `letter` stands for
  char letter;
  int num_args, args[2];
};
struct Formula {
  Node nodes[kMaxNodes];
  int size = 0, last = -1, num_operands = 0, num_results = 0;
  int definition[128];                                // of a capital letter: a node
  char operands[kMaxOperands], results[kMaxResults];  // letters, as they come

  explicit Formula(const char* text) : at_(text) {
    while (peek() != 0) {
      const char name = take();
      take();  // =
      if (num_results == kMaxResults) fail("formula with too many results");
      results[num_results++] = name;
      definition[int(name)] = sum();
      if (peek() == ';') take();
      last = add({nullptr, name, 0, {}});
    }
  }

 private:
  char peek() {
    while (*at_ == ' ') ++at_;
    return *at_;
  }
  char take() {
    const char c = peek();
    if (c != 0) ++at_;
    return c;
  }
  int add(const Node& node) {
    if (size == kMaxNodes) fail("formula too long");
    nodes[size] = node;
    return size++;
  }
  int sum() {
    int x = product();
    while (peek() == '+' || peek() == '-') {
      const char* fn = take() == '+' ? "add" : "subtract";
      const int y = product();
      x = add({fn, 0, 2, {x, y}});
    }
    return x;
  }
  int product() {
    int x = atom();
    while (peek() == '*' || peek() == '/') {
      const char* fn = take() == '*' ? "multiply" : "divide";
      const int y = atom();
      x = add({fn, 0, 2, {x, y}});
    }
    return x;
  }
  int atom() {
    peek();
    static const char* const kFunctions[] = {"sqrt", "square", "sign", "gelu_slope",
                                             "gelu_tanh_slope"};
    for (const char* fn : kFunctions) {
      const size_t length = __builtin_strlen(fn);
      if (__builtin_strncmp(at_, fn, length) != 0 || at_[length] != '(') continue;
      at_ += length;
      return add({fn, 0, 1, {atom()}});
    }
    if (peek() != '(') return add({nullptr, letter(), 0, {}});
    take();
    const int x = sum();
    take();  // )
    return x;
  }

  char letter() {
    const char c = take();
    if (c < 'a') return c;
    for (int i = 0; i < num_operands; ++i)
      if (operands[i] == c) return c;
    if (num_operands == kMaxOperands) fail("formula with too many operands");
    return operands[num_operands++] = c;
  }

  const char* at_;
};

const Formula& formula(int i) {
  struct All {
    Formula* list[kNumFused];
    All() {
      for (int k = 0; k < kNumFused; ++k) list[k] = new Formula(kFused[k].formula);
    }
  };
  static const All* const all = new All;
  return *all->list[i];
}

struct Matcher {
  const Formula& formula;
  Instruction* program;
  int size, num_inputs;
  const bool *is_float32, *is_output;
  // What has been found so far: copied before a choice.
  struct Found {
    int bound[128];  // letter -> value
    int num_members = 0;
    int members[kMaxNodes];  // instructions
    Found() {
      for (int& b : bound) b = -1;
    }
  } found;

  bool unify(int node, int value) {
    const Node& x = formula.nodes[node];
    if (x.fn == nullptr) {
      int& bound = found.bound[int(x.letter)];
      if (bound >= 0) return bound == value;
      if (!is_float32[value]) return false;
      bound = value;
      return x.letter >= 'a' || unify(formula.definition[int(x.letter)], value);
    }
    const int k = value - num_inputs;
    if (k < 0 || program[k].taken || !is_float32[value]) return false;
    const Instruction& in = program[k];
    if (in.num_operands != x.num_args || __builtin_strcmp(in.name, x.fn) != 0) return false;
    bool known = false;
    for (int i = 0; i < found.num_members; ++i) known |= found.members[i] == k;
    if (!known) {
      if (found.num_members == kMaxNodes) return false;
      found.members[found.num_members++] = k;
    }
    if (x.num_args == 1) return unify(x.args[0], in.operands[0]);
    const Found before = found;
    if (unify(x.args[0], in.operands[0]) && unify(x.args[1], in.operands[1])) return true;
    found = before;
    const bool commutes = x.fn[0] == 'a' || x.fn[0] == 'm';  // add, multiply
    return commutes && unify(x.args[0], in.operands[1]) && unify(x.args[1], in.operands[0]);
  }

  bool is_member(int k) const {
    for (int i = 0; i < found.num_members; ++i)
      if (found.members[i] == k) return true;
    return false;
  }
  bool is_result(int value) const {
    for (char c = 'A'; c <= 'Z'; ++c)
      if (found.bound[int(c)] == value) return true;
    return false;
  }

  // What is inside must have no other reader, and results none before `root`, where all appear.
  // No operand may be made inside.
  bool closed(int root) const {
    for (int i = 0; i < formula.num_operands; ++i)
      if (is_member(found.bound[int(formula.operands[i])] - num_inputs)) return false;
    for (int i = 0; i < found.num_members; ++i) {
      const int value = num_inputs + found.members[i];
      if (is_output[value] && !is_result(value)) return false;
      for (int k = 0; k < size; ++k) {
        if (is_member(k) || (is_result(value) && k > root)) continue;
        for (int j = 0; j < program[k].num_operands; ++j)
          if (program[k].operands[j] == value) return false;
      }
    }
    return true;
  }
};

}  // namespace

void match_fused(Instruction* program, int size, int num_inputs, const bool* is_float32,
                 const bool* is_output, FusedMatch* matches) {
  for (int k = 0; k < size; ++k) matches[k].fused = nullptr;
  for (int f = 0; f < kNumFused; ++f) {
    for (int root = size - 1; root >= 0; --root) {
      if (program[root].taken) continue;
      Matcher m{formula(f), program, size, num_inputs, is_float32, is_output, {}};
      if (!m.unify(m.formula.last, num_inputs + root) || !m.closed(root)) continue;
      FusedMatch& match = matches[root];
      const Formula& x = m.formula;
      match = {&kFused[f], x.num_operands, x.num_results, {}, {}};
      for (int i = 0; i < x.num_operands; ++i)
        match.operands[i] = m.found.bound[int(x.operands[i])];
      for (int i = 0; i < x.num_results; ++i) match.results[i] = m.found.bound[int(x.results[i])];
      for (int i = 0; i < m.found.num_members; ++i) program[m.found.members[i]].taken = true;
    }
  }
}

}  // namespace hb::HB_ISA
