// Broken uploads and requests: the right code, a message that names the cause, and the server goes
// on serving.
#include <gmock/gmock.h>

#include "absl/strings/str_cat.h"
#include "tests/e2e/live_server.h"
#include "tests/testing/onnx_text.h"

namespace halftone {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

constexpr char kPrefix[] = R"(<ir_version: 8, opset_import: ["" : 17]>)";

std::string Onnx(const std::string& body) {
  return ParseModel(absl::StrCat(kPrefix, body)).SerializeAsString();
}

// One server for all cases: each must leave it able to serve.
class Hostile : public testing::Test {
 protected:
  static void SetUpTestSuite() {
    live_ = new LiveServer(
        {.max_upload_bytes = int64_t{1} << 30, .max_message_bytes = int64_t{5} << 20});
    ASSERT_TRUE(live_->Upload("good", TinyMlp()).ok());
  }
  static void TearDownTestSuite() {
    delete live_;
    live_ = nullptr;
  }
  void TearDown() override {
    v1::InferResponse response;
    const grpc::Status status = live_->Infer(MlpRequest("good", 1), &response);
    EXPECT_TRUE(status.ok()) << status.error_message();
  }
  static void Expect(const grpc::Status& status, grpc::StatusCode code,
                     const std::string& message_part) {
    EXPECT_EQ(status.error_code(), code) << status.error_message();
    EXPECT_THAT(status.error_message(), HasSubstr(message_part));
  }
  // Sends the messages one by one, then half-closes.
  static grpc::Status Send(const std::vector<v1::UploadModelRequest>& messages) {
    grpc::ClientContext context;
    v1::UploadModelResponse response;
    const auto writer = live_->models->UploadModel(&context, &response);
    for (const v1::UploadModelRequest& message : messages) {
      if (!writer->Write(message)) break;
    }
    writer->WritesDone();
    return writer->Finish();
  }
  static LiveServer* live_;
};
LiveServer* Hostile::live_ = nullptr;

TEST_F(Hostile, UploadOfATruncatedFile) {
  const std::string whole = TinyMlp();
  Expect(live_->Upload("truncated", whole.substr(0, whole.size() / 2)), grpc::INVALID_ARGUMENT, "");
}

TEST_F(Hostile, UploadThatEndsEarly) {
  const std::string onnx = TinyMlp();
  Expect(Send({HeaderMessage(HeaderFor("early", onnx)), ChunkMessage(0, onnx.substr(0, 100))}),
         grpc::FAILED_PRECONDITION, absl::StrCat("after 100 of ", onnx.size(), " bytes"));
}

TEST_F(Hostile, UploadWithTheWrongDigest) {
  std::string onnx = TinyMlp();
  const v1::UploadHeader header = HeaderFor("flipped", onnx);
  onnx[onnx.size() / 2] ^= 4;
  Expect(Send({HeaderMessage(header), ChunkMessage(0, onnx)}), grpc::DATA_LOSS, "model.onnx");
}

TEST_F(Hostile, UploadOfFlippedBitsNeverBreaksTheServer) {
  const std::string good = TinyMlp();
  for (size_t i = 0; i < good.size(); i += 37) {
    std::string onnx = good;
    onnx[i] ^= static_cast<char>(1 << (i % 8));
    const grpc::Status status = live_->Upload("bits", onnx);
    // Weights may flip and still be a model; nothing may crash or be called our bug.
    EXPECT_TRUE(status.ok() || status.error_code() == grpc::INVALID_ARGUMENT ||
                status.error_code() == grpc::UNIMPLEMENTED)
        << i << ": " << status.error_code() << " " << status.error_message();
  }
}

TEST_F(Hostile, UploadOfSomethingElse) {
  Expect(live_->Upload("text", "this is not a model"), grpc::INVALID_ARGUMENT, "");
}

TEST_F(Hostile, UploadOfACycle) {
  Expect(live_->Upload("cycle", Onnx("g (float[2] x) => (float[2] y) {\n"
                                     "a = Add(x, b)\n b = Relu(a)\n y = Relu(b)\n}")),
         grpc::INVALID_ARGUMENT, "");
}

TEST_F(Hostile, UploadWithUnknownOperatorsNamesAllOfThem) {
  const grpc::Status status =
      live_->Upload("unknown", Onnx("g (float[2] x) => (float[2] y) {\n"
                                    "a = Frobnicate(x)\n y = Twiddle(a)\n}"));
  Expect(status, grpc::UNIMPLEMENTED, "Frobnicate");
  EXPECT_THAT(status.error_message(), HasSubstr("Twiddle"));
}

TEST_F(Hostile, UploadWithAnAbsurdInputShape) {
  auto model = ParseModel(absl::StrCat(kPrefix, "g (float[2] x) => (float[2] y) { y = Relu(x) }"));
  auto* type = model.mutable_graph()->mutable_input(0)->mutable_type()->mutable_tensor_type();
  type->mutable_shape()->clear_dim();
  type->mutable_shape()->add_dim()->set_dim_value(int64_t{1} << 62);
  Expect(live_->Upload("absurd", model.SerializeAsString()), grpc::RESOURCE_EXHAUSTED,
         "input 'x': has dimension 4611686018427387904, the limit is");
  type->mutable_shape()->mutable_dim(0)->set_dim_value(-7);
  Expect(live_->Upload("negative", model.SerializeAsString()), grpc::INVALID_ARGUMENT, "-7");
}

TEST_F(Hostile, UploadWithAbsurdWeights) {
  struct Case {
    std::vector<int64_t> dims;
    grpc::StatusCode code;
  };
  for (const Case& c : {Case{{-2}, grpc::INVALID_ARGUMENT},
                        Case{{int64_t{1} << 40, int64_t{1} << 40}, grpc::INVALID_ARGUMENT},
                        Case{{int64_t{1} << 30}, grpc::INVALID_ARGUMENT},  // has 8 bytes
                        Case{{int64_t{1} << 33}, grpc::RESOURCE_EXHAUSTED}}) {
    auto model =
        ParseModel(absl::StrCat(kPrefix, "g (float[2] x) => (float[2] y) { y = Add(x, w) }"));
    auto* weight = model.mutable_graph()->add_initializer();
    weight->set_name("w");
    weight->set_data_type(1);
    weight->set_raw_data(std::string(8, '\0'));
    for (int64_t d : c.dims) weight->add_dims(d);
    Expect(live_->Upload("absurd", model.SerializeAsString()), c.code, "'w'");
  }
}

TEST_F(Hostile, UploadThatClaimsTenGigabytes) {
  v1::UploadHeader header = HeaderFor("huge", "x");
  header.mutable_files(0)->set_bytes(int64_t{10} << 30);
  Expect(Send({HeaderMessage(header)}), grpc::RESOURCE_EXHAUSTED, "10737418240");
}

TEST_F(Hostile, UploadWithABadHeader) {
  v1::UploadHeader header = HeaderFor("../../etc/passwd", "x");
  Expect(Send({HeaderMessage(header)}), grpc::INVALID_ARGUMENT, "want 1 to 128");
  header = HeaderFor("m", "x");
  header.mutable_files(0)->set_name("../model.onnx");
  Expect(Send({HeaderMessage(header)}), grpc::INVALID_ARGUMENT, "../model.onnx");
  header = HeaderFor("m", "x");
  header.mutable_files(0)->set_sha256("nonsense");
  Expect(Send({HeaderMessage(header)}), grpc::INVALID_ARGUMENT, "nonsense");
  header = HeaderFor("m", "x");
  header.mutable_files(0)->set_bytes(-1);
  Expect(Send({HeaderMessage(header)}), grpc::INVALID_ARGUMENT, "-1");
  header.clear_files();
  Expect(Send({HeaderMessage(header)}), grpc::INVALID_ARGUMENT, "");
}

TEST_F(Hostile, UploadMessagesOutOfOrder) {
  const std::string onnx = TinyMlp();
  const v1::UploadModelRequest header = HeaderMessage(HeaderFor("order", onnx));
  Expect(Send({}), grpc::INVALID_ARGUMENT, "got no message");
  Expect(Send({ChunkMessage(0, onnx)}), grpc::INVALID_ARGUMENT, "want the header first");
  Expect(Send({header, header}), grpc::INVALID_ARGUMENT, "second header");
  Expect(Send({header, v1::UploadModelRequest()}), grpc::INVALID_ARGUMENT, "neither");
  Expect(Send({header, ChunkMessage(0, onnx, 7)}), grpc::INVALID_ARGUMENT, "file 7");
  Expect(Send({header, ChunkMessage(50, onnx)}), grpc::FAILED_PRECONDITION, "50");
  Expect(Send({header, ChunkMessage(0, "")}), grpc::INVALID_ARGUMENT, "has 0 bytes");
  const std::string big(4'194'305, 'x');
  Expect(Send({header, ChunkMessage(0, big)}), grpc::INVALID_ARGUMENT, "has 4194305 bytes");
}

TEST_F(Hostile, MessagesBeyondTheLimitNameIt) {
  v1::InferRequest request = MlpRequest("good", 1);
  request.mutable_inputs(0)->set_data(std::string(6 << 20, 'x'));
  v1::InferResponse response;
  Expect(live_->Infer(request, &response), grpc::RESOURCE_EXHAUSTED, absl::StrCat(5 << 20));
}

TEST_F(Hostile, ResumesABrokenUpload) {
  const std::string onnx = TinyMlp();
  const v1::UploadHeader header = HeaderFor("resumed", onnx);
  Send({HeaderMessage(header), ChunkMessage(0, onnx.substr(0, 300))});
  v1::GetUploadRequest get;
  *get.mutable_header() = header;
  v1::Upload upload;
  {
    grpc::ClientContext context;
    ASSERT_TRUE(live_->models->GetUpload(&context, get, &upload).ok());
  }
  EXPECT_THAT(upload.received_bytes(), ElementsAre(300));
  EXPECT_FALSE(upload.complete());
  const grpc::Status status = Send({HeaderMessage(header), ChunkMessage(300, onnx.substr(300))});
  ASSERT_TRUE(status.ok()) << status.error_message();
  v1::InferResponse response;
  EXPECT_TRUE(live_->Infer(MlpRequest("resumed", 1), &response).ok());
}

TEST_F(Hostile, GetUploadRefusesWhatUploadWould) {
  const auto get = [](const v1::GetUploadRequest& request) {
    grpc::ClientContext context;
    v1::Upload upload;
    return live_->models->GetUpload(&context, request, &upload);
  };
  v1::GetUploadRequest request;
  Expect(get(request), grpc::INVALID_ARGUMENT, "names no upload");
  *request.mutable_header() = HeaderFor("no/slash", "x");
  Expect(get(request), grpc::INVALID_ARGUMENT, "no/slash");
  request.set_upload_id("unknown");
  Expect(get(request), grpc::NOT_FOUND, "");
}

struct BadRequest {
  std::string name;
  void (*spoil)(v1::InferRequest&);
  grpc::StatusCode code;
  std::string message_part;
};

class BadInfer : public Hostile, public testing::WithParamInterface<BadRequest> {};

TEST_P(BadInfer, GetsItsCodeAndCause) {
  v1::InferRequest request = MlpRequest("good", 2);
  GetParam().spoil(request);
  v1::InferResponse response;
  Expect(live_->Infer(request, &response), GetParam().code, GetParam().message_part);
}

INSTANTIATE_TEST_SUITE_P(
    Requests, BadInfer,
    testing::Values(
        BadRequest{"UnknownModel", [](auto& r) { r.set_model("nobody"); }, grpc::NOT_FOUND,
                   "nobody"},
        BadRequest{"UnknownVersion", [](auto& r) { r.set_version(9); }, grpc::NOT_FOUND, "9"},
        BadRequest{"NegativeVersion", [](auto& r) { r.set_version(-1); }, grpc::NOT_FOUND, "-1"},
        BadRequest{"UnknownId",
                   [](auto& r) { r.mutable_variant()->set_variant_id("0123456789ab"); },
                   grpc::NOT_FOUND, "0123456789ab"},
        BadRequest{"BadSpec", [](auto& r) { r.mutable_variant()->set_spec_text("int8/per-x"); },
                   grpc::INVALID_ARGUMENT, "per-x"},
        BadRequest{"NoInput", [](auto& r) { r.clear_inputs(); }, grpc::INVALID_ARGUMENT,
                   "input 'x': missing"},
        BadRequest{"UnknownInput", [](auto& r) { r.mutable_inputs(0)->set_name("z"); },
                   grpc::INVALID_ARGUMENT, "'z'"},
        BadRequest{"NoType", [](auto& r) { r.mutable_inputs(0)->clear_type(); },
                   grpc::INVALID_ARGUMENT, "input 'x': type"},
        BadRequest{"WrongType", [](auto& r) { r.mutable_inputs(0)->set_type(v1::DATA_TYPE_INT64); },
                   grpc::INVALID_ARGUMENT, "got type INT64, want FP32"},
        BadRequest{"WrongRank", [](auto& r) { r.mutable_inputs(0)->add_shape(1); },
                   grpc::INVALID_ARGUMENT, "got rank 3"},
        BadRequest{"WrongBytes", [](auto& r) { r.mutable_inputs(0)->mutable_data()->pop_back(); },
                   grpc::INVALID_ARGUMENT, "got 31 bytes, want 32"},
        BadRequest{"HugeBatch",
                   [](auto& r) { r.mutable_inputs(0)->set_shape(0, int64_t{1} << 61); },
                   grpc::INVALID_ARGUMENT, "'x'"},
        BadRequest{"UnknownOutput", [](auto& r) { r.add_outputs()->set_name("z"); },
                   grpc::INVALID_ARGUMENT, "'z'"},
        BadRequest{"BadPolicy",
                   [](auto& r) { r.set_when_missing(static_cast<v1::WhenMissing>(9)); },
                   grpc::INVALID_ARGUMENT, "9"}),
    [](const auto& info) { return info.param.name; });

TEST_F(Hostile, QuantizeRequestsThatCannotBe) {
  Expect(live_->Quantize("nobody", "fp16", nullptr), grpc::NOT_FOUND, "nobody");
  Expect(live_->Quantize("good", "int9", nullptr), grpc::INVALID_ARGUMENT, "int9");
  Expect(live_->Quantize("good", "", nullptr), grpc::INVALID_ARGUMENT, "");
  Expect(live_->Quantize("good", "int8/per-tensor/static", nullptr), grpc::FAILED_PRECONDITION,
         "calibration");
  // Every node is told to stay float: quantizing nothing is an error.
  Expect(live_->Quantize("good", "int8/per-channel/dynamic;op=Gemm=fp32;op=MatMul=fp32", nullptr),
         grpc::FAILED_PRECONDITION, "");
}

TEST_F(Hostile, ExpiredDeadlinesAreDeadlineExceeded) {
  grpc::ClientContext context;
  context.set_deadline(std::chrono::system_clock::now() - std::chrono::seconds(1));
  v1::InferResponse response;
  EXPECT_EQ(live_->inference->Infer(&context, MlpRequest("good", 1), &response).error_code(),
            grpc::DEADLINE_EXCEEDED);
}

TEST_F(Hostile, EndlessLoopsEndAtTheDeadlineAndFreeTheirWorkers) {
  ASSERT_TRUE(live_
                  ->Upload("endless", Onnx("g (float[2] x) => (float[2] y) {\n"
                                           "trips = Constant <value_int = 4611686018427387904> ()\n"
                                           "more = Constant <value = bool {1}> ()\n"
                                           "y = Loop (trips, more, x) <body = b (int64 i, bool go, "
                                           "float[2] a) => (bool on, float[2] n) {\n"
                                           "on = Identity(go)\n n = Relu(a)\n}>\n}"))
                  .ok());
  for (int i = 0; i < 8; ++i) {  // more than there are workers
    grpc::ClientContext context;
    context.set_deadline(std::chrono::system_clock::now() + std::chrono::milliseconds(200));
    v1::InferRequest request;
    request.set_model("endless");
    v1::Tensor* x = request.add_inputs();
    x->set_type(v1::DATA_TYPE_FP32);
    x->add_shape(2);
    x->set_data(std::string(8, '\0'));
    v1::InferResponse response;
    EXPECT_EQ(live_->inference->Infer(&context, request, &response).error_code(),
              grpc::DEADLINE_EXCEEDED);
  }
  grpc::ClientContext context;
  context.set_deadline(std::chrono::system_clock::now() + std::chrono::seconds(30));
  v1::InferResponse response;
  EXPECT_TRUE(live_->inference->Infer(&context, MlpRequest("good", 1), &response).ok());
}

TEST_F(Hostile, OpenInferenceTimeoutIsHonoured) {
  inference::ModelInferRequest request;
  request.set_model_name("good");
  request.set_model_version("int8/per-tensor/weight-only");  // must be built: more than 1 µs
  (*request.mutable_parameters())["timeout"].set_int64_param(1);
  grpc::ClientContext context;
  inference::ModelInferResponse response;
  const grpc::Status status = live_->open_inference->ModelInfer(&context, request, &response);
  EXPECT_EQ(status.error_code(), grpc::DEADLINE_EXCEEDED) << status.error_message();
}

}  // namespace
}  // namespace halftone
