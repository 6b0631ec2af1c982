#include "client/tensor_files.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <random>
#include <string>

#include "absl/strings/str_cat.h"
#include "client/wire_reader.h"
#include "tests/testing/status_matchers.h"

namespace halftone {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

constexpr auto kInvalid = absl::StatusCode::kInvalidArgument;

// A version 1 file with this header dictionary and these elements.
std::string Npy(const std::string& header, const std::string& elements) {
  std::string bytes("\x93NUMPY\x01\x00", 8);
  bytes.push_back(static_cast<char>(header.size() & 0xff));
  bytes.push_back(static_cast<char>(header.size() >> 8));
  return bytes + header + elements;
}

std::string TempPath(const std::string& name) {
  return (std::filesystem::path(testing::TempDir()) / name).string();
}

void ExpectSame(const Tensor& got, const Tensor& want) {
  ASSERT_EQ(got.type(), want.type());
  ASSERT_EQ(got.shape(), want.shape());
  EXPECT_EQ(got.bytes(), want.bytes());
}

class EveryType : public testing::TestWithParam<DataType> {
 protected:
  // The numbers 0 to 5 in 2 rows.
  Tensor Sample() const {
    const Tensor f32 = Tensor::Of<float>({2, 3}, {0, 1, 2, 3, 4, 5});
    return *Convert(f32, GetParam());
  }
};

class EveryNpyType : public EveryType {};

TEST_P(EveryNpyType, RoundTrips) {
  HT_ASSERT_OK_AND_ASSIGN(const Tensor back, ParseNpy(NpyBytes(Sample())));
  ExpectSame(back, Sample());
}

TEST_P(EveryType, OnnxTensorRoundTrips) {
  HT_ASSERT_OK_AND_ASSIGN(const Tensor back, ParseOnnxTensor(OnnxTensorBytes("x", Sample())));
  ExpectSame(back, Sample());
}

constexpr auto kTypeName = [](const testing::TestParamInfo<DataType>& info) {
  return std::string(Name(info.param));
};
// bf16 has no .npy type, see Bf16BecomesF32InNpy.
INSTANTIATE_TEST_SUITE_P(AllButNibblesAndBf16, EveryNpyType,
                         testing::Values(DataType::kF32, DataType::kF16, DataType::kF64,
                                         DataType::kI8, DataType::kU8, DataType::kI16,
                                         DataType::kU16, DataType::kI32, DataType::kU32,
                                         DataType::kI64, DataType::kU64, DataType::kBool),
                         kTypeName);
INSTANTIATE_TEST_SUITE_P(AllButNibbles, EveryType,
                         testing::Values(DataType::kF32, DataType::kF16, DataType::kBF16,
                                         DataType::kF64, DataType::kI8, DataType::kU8,
                                         DataType::kI16, DataType::kU16, DataType::kI32,
                                         DataType::kU32, DataType::kI64, DataType::kU64,
                                         DataType::kBool),
                         kTypeName);

TEST(ParseNpy, ReadsWhatNumpyWrites) {
  // numpy.save of numpy.array([1, 2], '<i2'), version 1.0.
  const std::string header = "{'descr': '<i2', 'fortran_order': False, 'shape': (2,), }\n";
  HT_ASSERT_OK_AND_ASSIGN(const Tensor t, ParseNpy(Npy(header, std::string("\1\0\2\0", 4))));
  EXPECT_THAT(t.shape(), ElementsAre(2));
  EXPECT_THAT(t.data<int16_t>(), ElementsAre(1, 2));
}

TEST(ParseNpy, ReadsVersion2AndScalars) {
  const std::string header = "{'descr': '|u1', 'fortran_order': False, 'shape': ()}\n";
  std::string bytes("\x93NUMPY\x02\x00", 8);
  bytes.push_back(static_cast<char>(header.size()));
  bytes.append(3, '\0');
  HT_ASSERT_OK_AND_ASSIGN(const Tensor t, ParseNpy(bytes + header + "\7"));
  EXPECT_TRUE(t.shape().empty());
  EXPECT_THAT(t.data<uint8_t>(), ElementsAre(7));
}

TEST(NpyBytes, StartElementsAtMultiplesOf64) {
  for (int64_t rows = 1; rows < 100'000; rows = rows * 7 + 1) {
    const Tensor t = *Tensor::Create(DataType::kU8, {rows, 1});
    EXPECT_EQ((NpyBytes(t).size() - rows) % 64, 0u) << rows;
  }
}

struct BadNpy {
  std::string name;
  std::string bytes;
  std::string message;
};

class BadNpyTest : public testing::TestWithParam<BadNpy> {};

TEST_P(BadNpyTest, IsRefusedWithItsReason) {
  EXPECT_THAT(ParseNpy(GetParam().bytes), StatusIs(kInvalid, HasSubstr(GetParam().message)));
}

std::string Dict(const std::string& descr, const std::string& order, const std::string& shape) {
  return absl::StrCat("{'descr': ", descr, ", 'fortran_order': ", order, ", 'shape': ", shape,
                      ", }\n");
}

INSTANTIATE_TEST_SUITE_P(
    Npy, BadNpyTest,
    testing::Values(
        BadNpy{"Empty", "", "does not start with"}, BadNpy{"Text", "1 2 3\n", "does not start"},
        BadNpy{"OnlyMagic", "\x93NUMPY", "ends inside the header"},
        BadNpy{"Version9", std::string("\x93NUMPY\x09\x00\x01\x00x", 11), "version 9"},
        BadNpy{"HeaderLongerThanFile", std::string("\x93NUMPY\x01\x00\xff\xff{}", 12),
               "ends inside the header"},
        BadNpy{"NoDescr", Npy("{'shape': (1,)}", "x"), "no 'descr'"},
        BadNpy{"BigEndian", Npy(Dict("'>f4'", "False", "(1,)"), "abcd"), "big-endian"},
        BadNpy{"Text", Npy(Dict("'<U5'", "False", "(1,)"), "abcd"), "element type '<U5'"},
        BadNpy{"Complex", Npy(Dict("'<c8'", "False", "(1,)"), "abcdefgh"), "element type '<c8'"},
        BadNpy{"Struct", Npy(Dict("[('a', '<f4')]", "False", "(1,)"), "abcd"), "fields"},
        BadNpy{"UnendedDescr", Npy("{'descr': '<f4", ""), "does not end"},
        BadNpy{"Fortran", Npy(Dict("'<f4'", "True", "(1,)"), "abcd"), "Fortran"},
        BadNpy{"NoShape", Npy("{'descr': '<f4', 'fortran_order': False}", ""), "'shape'"},
        BadNpy{"UnendedShape", Npy("{'descr': '<f4', 'fortran_order': False, 'shape': (1", ""),
               "does not end"},
        BadNpy{"NegativeDimension", Npy(Dict("'<f4'", "False", "(-1,)"), "abcd"), "'-1'"},
        BadNpy{"WordDimension", Npy(Dict("'<f4'", "False", "(x,)"), "abcd"), "'x'"},
        BadNpy{"Overflow", Npy(Dict("'<f4'", "False", "(4611686018427387904, 8)"), "abcd"), ""},
        BadNpy{"TooFewElements", Npy(Dict("'<f4'", "False", "(2,)"), "abcd"), "got 4 bytes"},
        BadNpy{"TooManyElements", Npy(Dict("'<f4'", "False", "(1,)"), "abcdefgh"), "got 8 bytes"}),
    [](const auto& info) { return absl::StrCat(info.param.name, info.index); });

TEST(ParseOnnxTensor, ReadsTypedFieldsPackedAndNot) {
  std::string unpacked;  // dims 2, int32, int32_data 5 and -1
  AppendVarintField(unpacked, 1, 2);
  AppendVarintField(unpacked, 2, 6);
  AppendVarintField(unpacked, 5, 5);
  AppendVarintField(unpacked, 5, static_cast<uint64_t>(int64_t{-1}));
  HT_ASSERT_OK_AND_ASSIGN(const Tensor a, ParseOnnxTensor(unpacked));
  EXPECT_THAT(a.data<int32_t>(), ElementsAre(5, -1));

  std::string packed;  // dims 3, uint8, int32_data 1 2 255 in one field
  AppendVarintField(packed, 1, 3);
  AppendVarintField(packed, 2, 2);
  AppendBytesField(packed, 5, std::string("\x01\x02\xff\x01", 4));
  HT_ASSERT_OK_AND_ASSIGN(const Tensor b, ParseOnnxTensor(packed));
  EXPECT_THAT(b.data<uint8_t>(), ElementsAre(1, 2, 255));

  std::string floats;  // a scalar, float_data 1.0 unpacked
  AppendVarintField(floats, 2, 1);
  floats.append(std::string("\x25\x00\x00\x80\x3f", 5));
  HT_ASSERT_OK_AND_ASSIGN(const Tensor c, ParseOnnxTensor(floats));
  EXPECT_TRUE(c.shape().empty());
  EXPECT_THAT(c.data<float>(), ElementsAre(1.0f));
}

TEST(ParseOnnxTensor, SaysWhyItCannotRead) {
  std::string strings;
  AppendVarintField(strings, 2, 8);
  AppendBytesField(strings, 6, "word");
  EXPECT_THAT(ParseOnnxTensor(strings), StatusIs(kInvalid, HasSubstr("strings")));
  std::string external;
  AppendVarintField(external, 2, 1);
  AppendVarintField(external, 14, 1);
  EXPECT_THAT(ParseOnnxTensor(external), StatusIs(kInvalid, HasSubstr("another file")));
  EXPECT_THAT(ParseOnnxTensor(""), StatusIs(kInvalid, HasSubstr("data_type 0")));
  EXPECT_THAT(ParseOnnxTensor("\xff\xff\xff"), StatusIs(kInvalid, HasSubstr("truncated")));
  std::string huge;  // claims 2^62 elements
  AppendVarintField(huge, 1, uint64_t{1} << 62);
  AppendVarintField(huge, 2, 1);
  EXPECT_THAT(ParseOnnxTensor(huge), StatusIs(kInvalid));
}

// Any damage gives a tensor or an error; the sanitizer builds watch the memory.
TEST(TensorFiles, SurviveDamage) {
  const Tensor t = Tensor::Of<float>({2, 2}, {1, 2, 3, 4});
  std::mt19937 random(7);
  for (const std::string& good : {NpyBytes(t), OnnxTensorBytes("x", t)}) {
    for (size_t size = 0; size < good.size(); ++size) {
      EXPECT_FALSE(ParseNpy(good.substr(0, size)).ok());
      (void)ParseOnnxTensor(good.substr(0, size));
    }
    for (int i = 0; i < 5000; ++i) {
      std::string bad = good;
      for (int flips = 0; flips < 3; ++flips) bad[random() % bad.size()] ^= 1 << (random() % 8);
      (void)ParseNpy(bad);
      (void)ParseOnnxTensor(bad);
    }
  }
}

TEST(TensorFiles, GoThroughFilesByTheEndOfTheirNames) {
  const Tensor t = Tensor::Of<float>({2, 1}, {1.5f, -2});
  for (const std::string name : {"t.npy", "t.pb"}) {
    HT_ASSERT_OK(WriteTensorFile(TempPath(name), "t", t));
    HT_ASSERT_OK_AND_ASSIGN(const Tensor back, ReadTensorFile(TempPath(name)));
    ExpectSame(back, t);
  }
  HT_ASSERT_OK(WriteTensorFile(TempPath("t.raw"), "t", t));
  HT_ASSERT_OK_AND_ASSIGN(const Tensor back,
                          ReadRawTensorFile(TempPath("t.raw"), DataType::kF32, {2, 1}));
  ExpectSame(back, t);
}

TEST(TensorFiles, RawFilesMayLeaveOneDimensionToTheirSize) {
  HT_ASSERT_OK(WriteTensorFile(TempPath("r.raw"), "", Tensor::Of<float>({6}, {0, 1, 2, 3, 4, 5})));
  const std::string path = TempPath("r.raw");
  HT_ASSERT_OK_AND_ASSIGN(const Tensor t, ReadRawTensorFile(path, DataType::kF32, {-1, 2}));
  EXPECT_THAT(t.shape(), ElementsAre(3, 2));
  EXPECT_THAT(ReadRawTensorFile(path, DataType::kF32, {-1, 4}),
              StatusIs(kInvalid, HasSubstr("multiple of 4")));
  EXPECT_THAT(ReadRawTensorFile(path, DataType::kF32, {-1, -1}),
              StatusIs(kInvalid, HasSubstr("--shape")));
  EXPECT_THAT(ReadRawTensorFile(path, DataType::kF32, {5}), StatusIs(kInvalid, HasSubstr("r.raw")));
}

TEST(TensorFiles, Bf16BecomesF32InNpy) {
  const Tensor t = *Convert(Tensor::Of<float>({2}, {1.5f, -2}), DataType::kBF16);
  HT_ASSERT_OK(WriteTensorFile(TempPath("b.npy"), "", t));
  HT_ASSERT_OK_AND_ASSIGN(const Tensor back, ReadTensorFile(TempPath("b.npy")));
  EXPECT_THAT(back.data<float>(), ElementsAre(1.5f, -2));
}

TEST(TensorFiles, NameTheFileInErrors) {
  EXPECT_THAT(ReadTensorFile("/nowhere/x.npy"),
              StatusIs(absl::StatusCode::kNotFound, HasSubstr("/nowhere/x.npy")));
  EXPECT_THAT(ReadTensorFile(testing::TempDir()), StatusIs(kInvalid, HasSubstr("folder")));
  std::ofstream(TempPath("bad.npy")) << "no";
  EXPECT_THAT(ReadTensorFile(TempPath("bad.npy")), StatusIs(kInvalid, HasSubstr("bad.npy")));
  EXPECT_FALSE(WriteTensorFile("/nowhere/x.npy", "", Tensor::Scalar(1.0f)).ok());
}

}  // namespace
}  // namespace halftone
