#include "client/samples.h"

#include <algorithm>
#include <cstring>
#include <random>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "client/tensor_files.h"
#include "core/base/status_macros.h"

namespace halftone {
namespace {

std::string NamesOf(absl::Span<const InputSignature> inputs) {
  return absl::StrJoin(inputs, ", ", [](std::string* out, const InputSignature& input) {
    absl::StrAppend(out, "'", input.name, "'");
  });
}

// Splits "NAME=VALUE"; without '=' the name is empty.
std::pair<std::string, std::string> SplitName(const std::string& argument) {
  const size_t equals = argument.find('=');
  if (equals == std::string::npos) return {"", argument};
  return {argument.substr(0, equals), argument.substr(equals + 1)};
}

// Shape of one sample of `input` in `tensor`, and how many rows of the tensor it takes.
struct Cut {
  Shape sample_shape;
  int64_t rows = 1;
};

absl::StatusOr<Cut> CutFor(const InputSignature& input, const Tensor& tensor) {
  const int rank = static_cast<int>(input.shape.size());
  Cut cut{.sample_shape = tensor.shape()};
  if (tensor.rank() == rank + 1) {
    cut.sample_shape.erase(cut.sample_shape.begin());
    return cut;
  }
  if (tensor.rank() != rank || rank == 0) {
    return absl::InvalidArgumentError(
        absl::StrCat("input '", input.name, "': got shape ", ToString(tensor.shape()),
                     ", want rank ", rank, " or ", rank + 1, " for ", ToString(input.shape)));
  }
  cut.rows = std::max<int64_t>(input.shape[0], 1);
  cut.sample_shape[0] = cut.rows;
  if (tensor.dim(0) % cut.rows != 0) {
    return absl::InvalidArgumentError(absl::StrCat("input '", input.name, "': got ", tensor.dim(0),
                                                   " rows, want a multiple of ", cut.rows));
  }
  return cut;
}

}  // namespace

absl::StatusOr<std::vector<InputArgument>> ParseInputArguments(
    absl::Span<const std::string> arguments) {
  std::vector<InputArgument> inputs;
  for (const std::string& argument : arguments) {
    auto [name, path] = SplitName(argument);
    if (path.empty()) {
      return absl::InvalidArgumentError(
          absl::StrCat("got input '", argument, "', want NAME=FILE or FILE"));
    }
    inputs.push_back({.name = std::move(name), .path = std::move(path)});
  }
  return inputs;
}

absl::StatusOr<std::map<std::string, Shape>> ParseShapeArguments(
    absl::Span<const std::string> arguments) {
  std::map<std::string, Shape> shapes;
  for (const std::string& argument : arguments) {
    const auto [name, text] = SplitName(argument);
    Shape& shape = shapes[name];
    for (const absl::string_view part : absl::StrSplit(text, ',', absl::SkipEmpty())) {
      int64_t dim = 0;
      if (!absl::SimpleAtoi(part, &dim) || dim < -1) {
        return absl::InvalidArgumentError(
            absl::StrCat("got shape '", argument, "', want numbers like NAME=1,3,224,224"));
      }
      shape.push_back(dim);
    }
  }
  return shapes;
}

absl::StatusOr<std::vector<Tensor>> LoadInputs(absl::Span<const InputSignature> inputs,
                                               absl::Span<const InputArgument> arguments,
                                               const std::map<std::string, Shape>& shapes) {
  std::map<std::string, std::string> paths;
  for (const InputArgument& argument : arguments) {
    if (argument.name.empty() && inputs.size() != 1) {
      return absl::InvalidArgumentError(absl::StrCat(
          "the model has inputs ", NamesOf(inputs), ": want NAME=FILE, got '", argument.path, "'"));
    }
    const std::string name = argument.name.empty() ? inputs[0].name : argument.name;
    if (std::none_of(inputs.begin(), inputs.end(),
                     [&](const InputSignature& input) { return input.name == name; })) {
      return absl::InvalidArgumentError(
          absl::StrCat("the model has no input '", name, "', it has ", NamesOf(inputs)));
    }
    if (!paths.emplace(name, argument.path).second) {
      return absl::InvalidArgumentError(absl::StrCat("input '", name, "' is given twice"));
    }
  }
  std::vector<Tensor> tensors;
  for (const InputSignature& input : inputs) {
    const auto path = paths.find(input.name);
    if (path == paths.end()) {
      return absl::InvalidArgumentError(absl::StrCat("no file for input '", input.name,
                                                     "', the model has inputs ", NamesOf(inputs)));
    }
    if (FormatOf(path->second) != TensorFileFormat::kRaw) {
      HT_ASSIGN_OR_RETURN(tensors.emplace_back(), ReadTensorFile(path->second));
      continue;
    }
    auto shape = shapes.find(input.name);
    if (shape == shapes.end() && inputs.size() == 1) shape = shapes.find("");
    HT_ASSIGN_OR_RETURN(tensors.emplace_back(),
                        ReadRawTensorFile(path->second, input.type,
                                          shape == shapes.end() ? input.shape : shape->second));
  }
  return tensors;
}

absl::StatusOr<std::vector<std::vector<Tensor>>> SplitSamples(
    absl::Span<const InputSignature> inputs, absl::Span<const Tensor> tensors) {
  if (tensors.size() != inputs.size()) {
    return absl::InvalidArgumentError(
        absl::StrCat("got ", tensors.size(), " tensors, want ", inputs.size()));
  }
  std::vector<std::vector<Tensor>> samples;
  for (size_t i = 0; i < inputs.size(); ++i) {
    const Tensor& tensor = tensors[i];
    HT_ASSIGN_OR_RETURN(const Cut cut, CutFor(inputs[i], tensor));
    const int64_t count = tensor.dim(0) / cut.rows;
    if (i == 0) samples.resize(count);
    if (static_cast<int64_t>(samples.size()) != count) {
      return absl::InvalidArgumentError(absl::StrCat("input '", inputs[i].name, "': got ", count,
                                                     " samples, input '", inputs[0].name, "' has ",
                                                     samples.size()));
    }
    const int64_t bytes = count == 0 ? 0 : tensor.num_bytes() / count;
    for (int64_t s = 0; s < count; ++s) {
      HT_ASSIGN_OR_RETURN(samples[s].emplace_back(),
                          Tensor::FromBuffer(tensor.type(), cut.sample_shape, tensor.buffer(),
                                             tensor.buffer_offset() + s * bytes));
    }
  }
  return samples;
}

absl::StatusOr<Tensor> JoinRows(absl::Span<const Tensor> parts) {
  if (parts.front().rank() == 0) {
    return absl::InvalidArgumentError("scalars cannot be joined along axis 0");
  }
  Shape shape = parts.front().shape();
  shape[0] = 0;
  for (const Tensor& part : parts) {
    Shape want = shape;
    if (part.rank() == static_cast<int>(shape.size())) want[0] = part.dim(0);
    if (part.shape() != want || part.type() != parts.front().type()) {
      return absl::InvalidArgumentError(
          absl::StrCat("the results have different shapes, ", ToString(part.shape()), " and ",
                       ToString(parts.front().shape()), ": they cannot be joined"));
    }
    shape[0] += part.dim(0);
  }
  HT_ASSIGN_OR_RETURN(Tensor joined, Tensor::Create(parts.front().type(), shape));
  std::byte* to = joined.mutable_raw();
  for (const Tensor& part : parts) {
    if (part.num_bytes() > 0) std::memcpy(to, part.raw(), part.num_bytes());
    to += part.num_bytes();
  }
  return joined;
}

absl::StatusOr<std::vector<Tensor>> RandomInputs(absl::Span<const InputSignature> inputs) {
  std::mt19937 random(1);
  std::vector<Tensor> tensors;
  for (const InputSignature& input : inputs) {
    Shape shape = input.shape;
    std::replace(shape.begin(), shape.end(), int64_t{-1}, int64_t{1});
    HT_ASSIGN_OR_RETURN(Tensor values, Tensor::Create(DataType::kF32, shape));
    for (float& x : values.mutable_data<float>()) {
      const float unit = static_cast<float>(random() >> 8) * 0x1p-24f;  // [0, 1)
      x = IsFloat(input.type) ? unit * 2 - 1 : static_cast<float>(unit >= 0.5f);
    }
    HT_ASSIGN_OR_RETURN(tensors.emplace_back(), Convert(values, input.type));
  }
  return tensors;
}

}  // namespace halftone
