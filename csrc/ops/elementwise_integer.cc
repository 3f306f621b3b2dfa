// Integer and Boolean functions of the tile engine. Arithmetic wraps; a division by zero gives 0,
// as in NumPy.
#include "ops/elementwise.h"

namespace hb::HB_ISA {
namespace {

template <class T>
struct UnsignedOf {
  typedef uint32_t type;
};
template <>
struct UnsignedOf<int64_t> {
  typedef uint64_t type;
};
template <>
struct UnsignedOf<uint64_t> {
  typedef uint64_t type;
};
template <class T>
constexpr bool kSigned = T(-1) < T(0);

// Quotient rounded down; the smallest number over -1 wraps to itself.
template <class T>
T floor_div(T a, T b) {
  if (b == 0) return 0;
  if constexpr (kSigned<T>) {
    if (b == -1) return T(0 - typename UnsignedOf<T>::type(a));
    const T q = a / b;
    return q * b != a && (a < 0) != (b < 0) ? q - 1 : q;
  } else {
    return a / b;
  }
}
template <class T>
T fmod(T a, T b) {  // sign of the dividend
  return b == 0 || (kSigned<T> && b == T(-1)) ? T(0) : T(a % b);
}
template <class T>
T floor_mod(T a, T b) {  // sign of the divisor
  const T r = fmod(a, b);
  return kSigned<T> && r != 0 && (r < 0) != (b < 0) ? r + b : r;
}
// Negative exponents give the rounded-down absolute value: 0, but for bases 1 and -1.
template <class T>
T power(T base, T exponent) {
  typedef typename UnsignedOf<T>::type U;
  if (kSigned<T> && exponent < T(0)) {
    if (base == T(1)) return 1;
    return base == T(-1) ? (exponent & 1 ? T(-1) : T(1)) : T(0);
  }
  U y = 1, b = U(base);
  for (U e = U(exponent); e != 0; e >>= 1, b *= b)
    if (e & 1) y *= b;
  return T(y);
}
template <class T>
typename UnsignedOf<T>::type magnitude(T a) {
  typedef typename UnsignedOf<T>::type U;
  return kSigned<T> && a < T(0) ? U(0) - U(a) : U(a);
}
template <class T>
T gcd(T a, T b) {
  auto x = magnitude(a), y = magnitude(b);
  while (y != 0) {
    const auto r = x % y;
    x = y;
    y = r;
  }
  return T(x);
}
template <class T>
T lcm(T a, T b) {
  const auto g = magnitude(gcd(a, b));
  return g == 0 ? T(0) : T(magnitude(a) / g * magnitude(b));
}
template <class T>
T shift_left(T a, T b) {
  typedef typename UnsignedOf<T>::type U;
  return U(b) < sizeof(T) * 8 ? T(U(a) << b) : T(0);
}
template <class T>
T shift_right(T a, T b) {
  typedef typename UnsignedOf<T>::type U;
  return U(b) < sizeof(T) * 8 ? T(a >> b) : (kSigned<T> && a < T(0) ? T(-1) : T(0));
}

template <class T>
void add_integers(ElementwiseTable& t) {
  typedef typename UnsignedOf<T>::type U;
  typedef Vec<U> W;
  typedef Vec<T> V;
  binary<T, U>(t, "add", [](W a, W b) { return a + b; });
  binary<T, U>(t, "subtract", [](W a, W b) { return a - b; });
  binary<T, U>(t, "multiply", [](W a, W b) { return a * b; });
  unary<T, U>(t, "negative", [](W a) { return -a; });
  unary<T, U>(t, "square", [](W a) { return a * a; });
  binary<T>(t, "maximum", [](V a, V b) { return a > b ? a : b; });
  binary<T>(t, "minimum", [](V a, V b) { return a < b ? a : b; });
  binary<T>(t, "bitwise_and", [](V a, V b) { return a & b; });
  binary<T>(t, "bitwise_or", [](V a, V b) { return a | b; });
  binary<T>(t, "bitwise_xor", [](V a, V b) { return a ^ b; });
  unary<T>(t, "bitwise_not", [](V a) { return ~a; });
  if constexpr (kSigned<T>) {
    unary<T, U>(t, "abs", [](W a) { return (Vec<T>)a < T(0) ? W(-a) : a; });
    unary<T>(t, "sign", [](V a) { return V((a < T(0)) - (a > T(0))); });
    test<T>(t, "signbit", [](V a) { return a < T(0); });
  } else {
    unary<T>(t, "abs", [](V a) { return a; });
    unary<T>(t, "sign", [](V a) { return a != T(0) ? splat<T>(1) : V{}; });
    test<T>(t, "signbit", [](V a) { return a != a; });
  }
  scalar_binary<T>(t, "floor_divide", 20, [](T a, T b) { return floor_div(a, b); });
  scalar_binary<T>(t, "mod", 20, [](T a, T b) { return floor_mod(a, b); });
  scalar_binary<T>(t, "fmod", 20, [](T a, T b) { return fmod(a, b); });
  scalar_binary<T>(t, "power", 20, [](T a, T b) { return power(a, b); });
  scalar_binary<T>(t, "gcd", 60, [](T a, T b) { return gcd(a, b); });
  scalar_binary<T>(t, "lcm", 60, [](T a, T b) { return lcm(a, b); });
  scalar_binary<T>(t, "left_shift", 2, [](T a, T b) { return shift_left(a, b); });
  scalar_binary<T>(t, "right_shift", 2, [](T a, T b) { return shift_right(a, b); });
  add_comparisons<T>(t);
}

}  // namespace

void add_integer_functions(ElementwiseTable& table) {
  each<int32_t, int64_t, uint64_t>([&]<class T>() { add_integers<T>(table); });
  // Booleans: a sum is "or", a product "and".
  typedef uint8_t T;
  typedef Vec<uint8_t> V;
  const char *sums[] = {"add", "maximum", "bitwise_or"},
             *products[] = {"multiply", "minimum", "bitwise_and"},
             *same[] = {"abs", "sign", "square"};
  for (const char* name : sums) binary<T>(table, name, [](V a, V b) { return a | b; });
  for (const char* name : products) binary<T>(table, name, [](V a, V b) { return a & b; });
  binary<T>(table, "bitwise_xor", [](V a, V b) { return a ^ b; });
  unary<T>(table, "bitwise_not", [](V a) { return a ^ T(1); });
  for (const char* name : same) unary<T>(table, name, [](V a) { return a; });
  add_comparisons<T>(table);
}

}  // namespace hb::HB_ISA
