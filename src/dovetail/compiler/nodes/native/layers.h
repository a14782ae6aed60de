// Emulated layers: multipliers, packed weights, and the layer itself.
#include <memory>

namespace dovetail_core {

// A multiplier with its table of all products, in the kernels' form.
class Products {
public:
  Products(dv_multiplier forms, const int32_t* table) : forms_(forms) { prepare(table); }

  // The products follow from the forms: constant[w] + sum of first * second + looked-up bytes.
  Products(dv_multiplier forms, int rank, int lookups, bool lanes_are_second) : forms_(forms) {
    std::vector<int32_t> table(65536);
    const auto* first = static_cast<const uint8_t*>(forms.first);
    const auto* second = static_cast<const uint8_t*>(forms.second);
    const auto* entry = static_cast<const uint8_t*>(forms.entry);
    const auto* classes = static_cast<const uint8_t*>(forms.classes);
    const auto* step = static_cast<const uint8_t*>(forms.step);
    for (int a = 0; a < 256; ++a)
      for (int w = 0; w < 256; ++w) {
        int32_t sum = static_cast<const int32_t*>(forms.constant)[w];
        for (int r = 0; r < rank; ++r) {
          const uint8_t x = first[r * 256 + a], y = second[r * 256 + w];
          sum += forms.second_unsigned ? int8_t(x) * y : x * int8_t(y);
        }
        const int row = lanes_are_second ? a : w, lane = lanes_are_second ? w : a;
        for (int l = 0; l < lookups; ++l)
          sum += step[l] * entry[(l * 256 + row) * 16 + classes[l * 256 + lane]];
        table[size_t(a * 256 + w)] = sum;
      }
    prepare(table.data());
  }
  const dv_multiplier& forms() const { return forms_; }

private:
  void prepare(const int32_t* table) {
    kept_.resize(size_t(dv_table_bytes()) + 64); // its rows are whole cache lines
    auto* start = kept_.data() + (-reinterpret_cast<uintptr_t>(kept_.data()) & 63);
    dv_prepare_table(table, start);
    forms_.table = start;
  }
  dv_multiplier forms_;
  std::vector<uint8_t> kept_;
};

// A weight in the kernels' order, and its scale: one, or one per output.
struct Packed {
  std::vector<float> scale;
  std::vector<uint8_t> data;
};

// `given` are the weight's scales, if it has any of its own: `channels` of them.
inline std::shared_ptr<const Packed> pack(const dv_shape& shape, const dv_multiplier& multiplier,
                                          const float* weight, int64_t channels, const float* given,
                                          const dv_integers& codes, bool is_signed) {
  auto made = std::make_shared<Packed>();
  int64_t depth = shape.channels / shape.groups;
  for (const int64_t size : shape.kernel)
    depth *= size;
  const int64_t count = shape.outputs * depth;
  std::vector<int32_t> zero(static_cast<size_t>(channels));
  if (given) {
    made->scale.assign(given, given + channels);
  } else {
    const dv_tensor tensor{weight, weight, 1, channels, count / channels, 0, 0, nullptr};
    cover_all(tensor, codes, made->scale, zero);
  }
  std::vector<uint8_t> bytes(static_cast<size_t>(count));
  check(dv_quantize(weight, 1, channels, count / channels, made->scale.data(), zero.data(),
                    codes.qmin, codes.qmax, 1, bytes.data()),
        "codes of a weight");
  const int64_t size = dv_packed_bytes(&shape);
  if (size < 0)
    throw std::runtime_error("a weight that does not fit its layer");
  made->data.resize(static_cast<size_t>(size));
  check(dv_pack(&shape, &multiplier, bytes.data(), is_signed, made->data.data()), "a weight");
  return made;
}

// The whole layer: quantise, multiply, scale, add the bias.
inline void layer(const dv_shape& shape, const dv_multiplier& multiplier, const Packed& weight,
                  const float* x, float scale, int32_t zero, const dv_integers& codes,
                  const float* bias, float* y) {
  std::vector<float> scales(static_cast<size_t>(shape.outputs));
  for (size_t n = 0; n < scales.size(); ++n)
    scales[n] = scale * weight.scale[weight.scale.size() == 1 ? 0 : n];
  const dv_input in{x, 0, scale, zero, codes.qmin, codes.qmax, 0};
  const dv_output out{y, 1, zero, scales.data(), bias};
  check(dv_run(&shape, &multiplier, weight.data.data(), &in, &out), "a layer");
}

// A weight [outputs, channels, taps] rounded to blocks along its channels, in the kernels' order.
inline std::shared_ptr<const std::vector<uint8_t>>
pack_blocks(const dv_shape& shape, const dv_block_codes& what, const dv_block_format& rule,
            const float* weight, int64_t outputs, int64_t channels, int64_t taps) {
  const int64_t rows = outputs * taps;
  std::vector<float> turned, codes(size_t(rows * channels));
  if (taps > 1) {
    turned.resize(size_t(rows * channels));
    for (int64_t o = 0; o < outputs; ++o)
      for (int64_t c = 0; c < channels; ++c)
        for (int64_t t = 0; t < taps; ++t)
          turned[size_t((o * taps + t) * channels + c)] = weight[(o * channels + c) * taps + t];
    weight = turned.data();
  }
  const int64_t blocks = (channels + rule.block - 1) / rule.block;
  const int64_t dots = (channels + what.block - 1) / what.block;
  std::vector<float> scales(size_t(rows * blocks)), spread(size_t(rows * dots));
  check(dv_block_quantize(weight, rows, channels, &rule, codes.data(), scales.data()),
        "blocks of a weight");
  for (int64_t r = 0; r < rows; ++r)
    for (int64_t d = 0; d < dots; ++d)
      spread[size_t(r * dots + d)] = scales[size_t(r * blocks + d * what.block / rule.block)];
  const int64_t size = dv_block_packed_bytes(&shape, &what);
  if (size < 0)
    throw std::runtime_error("a weight that does not fit its layer");
  auto made = std::make_shared<std::vector<uint8_t>>(size_t(size));
  check(dv_block_pack(&shape, &what, codes.data(), spread.data(), made->data()), "a weight");
  return made;
}

} // namespace dovetail_core
