// The main road, in one process: upload, quantize, infer, look at the metrics.
#include <gmock/gmock.h>

#include <cmath>
#include <cstring>
#include <thread>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "core/base/sha256.h"
#include "core/tensor/float16.h"
#include "tests/e2e/live_server.h"

namespace halftone {
namespace {

using ::testing::AllOf;
using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::SizeIs;

MATCHER(IsOkCall, "is an OK call") {
  *result_listener << arg.error_code() << " " << arg.error_message();
  return arg.ok();
}

double Sqnr(const std::vector<double>& want, const std::vector<float>& got) {
  double signal = 0, noise = 0;
  for (size_t i = 0; i < want.size(); ++i) {
    signal += want[i] * want[i];
    noise += (want[i] - got[i]) * (want[i] - got[i]);
  }
  return 10 * std::log10(signal / std::max(noise, 1e-30));
}

v1::InferResponse MustInfer(LiveServer& live, const v1::InferRequest& request) {
  v1::InferResponse response;
  EXPECT_THAT(live.Infer(request, &response), IsOkCall());
  return response;
}

TEST(Serving, FromUploadToAnswerInEveryPrecision) {
  LiveServer live;
  v1::Model model;
  ASSERT_THAT(live.Upload("mlp", TinyMlp(), &model), IsOkCall());
  EXPECT_EQ(model.version(), 1);
  EXPECT_EQ(model.signature().inputs(0).name(), "x");
  EXPECT_EQ(model.signature().inputs(0).shape(0).symbol(), "batch");
  EXPECT_EQ(model.signature().outputs(0).shape(1).size(), 3);

  const v1::InferRequest request = MlpRequest("mlp", 8);
  const std::vector<double> want = TinyMlpScores(Floats(request.inputs(0).data()));
  // Expected noise: fp32 rounds, halves keep 11 and 8 bits, int8 keeps 7.
  struct Case {
    const char* spec;
    double min_sqnr_db;
  };
  for (const Case& c :
       {Case{"fp32", 110}, Case{"fp16", 55}, Case{"bf16", 35}, Case{"int8/per-channel/dynamic", 25},
        Case{"int8/per-channel/weight-only", 30}}) {
    SCOPED_TRACE(c.spec);
    if (std::string(c.spec) != "fp32") {
      v1::QuantizeResult result;
      std::vector<v1::QuantizeProgress> progress;
      ASSERT_THAT(live.Quantize("mlp", c.spec, &result, &progress), IsOkCall());
      EXPECT_EQ(result.variant().spec_text(), c.spec);
      EXPECT_GT(result.report().sqnr_db(), c.min_sqnr_db);
      EXPECT_LT(result.report().weight_bytes(), result.report().fp32_weight_bytes());
      for (size_t i = 1; i < progress.size(); ++i) {
        EXPECT_GE(progress[i].fraction(), progress[i - 1].fraction());
      }
    }
    v1::InferRequest with_spec = request;
    with_spec.mutable_variant()->set_spec_text(c.spec);
    with_spec.set_id("r1");
    with_spec.set_report_timings(true);
    const v1::InferResponse response = MustInfer(live, with_spec);
    EXPECT_EQ(response.id(), "r1");
    EXPECT_EQ(response.spec_text(), c.spec);
    EXPECT_FALSE(response.fell_back());
    EXPECT_TRUE(response.has_timings());
    ASSERT_THAT(response.outputs(), SizeIs(1));
    EXPECT_THAT(response.outputs(0).shape(), ElementsAre(8, 3));
    EXPECT_GT(Sqnr(want, Floats(response.outputs(0).data())), c.min_sqnr_db);
    // The id names the same variant.
    v1::InferRequest with_id = request;
    with_id.mutable_variant()->set_variant_id(response.variant_id().substr(0, 12));
    EXPECT_EQ(MustInfer(live, with_id).outputs(0).data(), response.outputs(0).data());
  }
}

TEST(Serving, TakesAndGivesHalvesOnTheWire) {
  LiveServer live;
  ASSERT_THAT(live.Upload("mlp", TinyMlp()), IsOkCall());
  v1::InferRequest request = MlpRequest("mlp", 2);
  const std::vector<float> x = Floats(request.inputs(0).data());
  std::string half;
  std::vector<float> rounded;
  for (float v : x) {
    const BFloat16 b(v);
    half.append(reinterpret_cast<const char*>(&b.bits), 2);
    rounded.push_back(static_cast<float>(b));
  }
  request.mutable_inputs(0)->set_type(v1::DATA_TYPE_BF16);
  request.mutable_inputs(0)->set_data(half);
  request.add_outputs()->set_name("scores");
  request.mutable_outputs(0)->set_type(v1::DATA_TYPE_FP16);
  const v1::InferResponse response = MustInfer(live, request);
  ASSERT_EQ(response.outputs(0).type(), v1::DATA_TYPE_FP16);
  ASSERT_EQ(response.outputs(0).data().size(), 2u * 2 * 3);
  const std::vector<double> want = TinyMlpScores(rounded);
  for (size_t i = 0; i < want.size(); ++i) {
    uint16_t bits = 0;
    std::memcpy(&bits, response.outputs(0).data().data() + 2 * i, 2);
    EXPECT_NEAR(Float16::ToFloat(bits), want[i], std::abs(want[i]) * 1e-3 + 1e-3);
  }
}

TEST(Serving, BuildsAMissingVariantOnTheFly) {
  LiveServer live;
  ASSERT_THAT(live.Upload("mlp", TinyMlp()), IsOkCall());
  v1::InferRequest request = MlpRequest("mlp", 1);
  request.mutable_variant()->set_spec_text("fp16");
  request.set_when_missing(v1::WHEN_MISSING_FALLBACK);
  const v1::InferResponse first = MustInfer(live, request);
  EXPECT_TRUE(first.fell_back());
  EXPECT_EQ(first.spec_text(), "fp32");
  request.set_when_missing(v1::WHEN_MISSING_WAIT);
  const v1::InferResponse second = MustInfer(live, request);
  EXPECT_FALSE(second.fell_back());
  EXPECT_EQ(second.spec_text(), "fp16");
}

TEST(Serving, SaysUnavailableWithARetryHintWhenAskedTo) {
  LiveServer live;
  ASSERT_THAT(live.Upload("mlp", TinyMlp()), IsOkCall());
  v1::InferRequest request = MlpRequest("mlp", 1);
  request.mutable_variant()->set_spec_text("bf16");
  request.set_when_missing(v1::WHEN_MISSING_UNAVAILABLE);
  grpc::ClientContext context;
  v1::InferResponse response;
  const grpc::Status status = live.inference->Infer(&context, request, &response);
  EXPECT_EQ(status.error_code(), grpc::UNAVAILABLE);
  EXPECT_EQ(context.GetServerTrailingMetadata().count("grpc-retry-pushback-ms"), 1u);
  EXPECT_THAT(status.error_details(), HasSubstr("google.rpc.RetryInfo"));
}

TEST(Serving, SharesOneBuildAmongAllCallers) {
  LiveServer live;
  ASSERT_THAT(live.Upload("mlp", TinyMlp()), IsOkCall());
  std::vector<std::thread> clients;
  for (int i = 0; i < 6; ++i) {
    clients.emplace_back([&live] {
      v1::InferRequest request = MlpRequest("mlp", 1);
      request.mutable_variant()->set_spec_text("int8/per-tensor/dynamic");
      EXPECT_EQ(MustInfer(live, request).spec_text(), "int8/per-tensor/dynamic");
    });
  }
  for (std::thread& client : clients) client.join();
  EXPECT_EQ(live.Metric(R"(halftone_quantize_total{result="ok",spec="int8/per-tensor/dynamic"})"),
            1);
}

TEST(Serving, CalibratesWithUploadedSamples) {
  LiveServer live;
  ASSERT_THAT(live.Upload("mlp", TinyMlp()), IsOkCall());
  v1::QuantizeResult result;
  EXPECT_EQ(live.Quantize("mlp", "int8/per-channel/static", &result).error_code(),
            grpc::FAILED_PRECONDITION);
  {
    grpc::ClientContext context;
    v1::UploadCalibrationResponse response;
    const auto writer = live.quantization->UploadCalibration(&context, &response);
    v1::UploadCalibrationRequest message;
    message.mutable_header()->set_model("mlp");
    writer->Write(message);
    for (int i = 0; i < 16; ++i) {
      message.Clear();
      *message.mutable_sample()->add_inputs() = MlpRequest("mlp", 4, i).inputs(0);
      writer->Write(message);
    }
    writer->WritesDone();
    ASSERT_THAT(writer->Finish(), IsOkCall());
    EXPECT_EQ(response.sample_count(), 16);
    EXPECT_EQ(response.set_name(), "default");
  }
  ASSERT_THAT(live.Quantize("mlp", "int8/per-channel/static", &result), IsOkCall());
  EXPECT_THAT(result.report().sample_source(), HasSubstr("default"));
  EXPECT_GT(result.report().sqnr_db(), 25);
}

TEST(Serving, NamesTheBadCalibrationSample) {
  LiveServer live;
  ASSERT_THAT(live.Upload("mlp", TinyMlp()), IsOkCall());
  grpc::ClientContext context;
  v1::UploadCalibrationResponse response;
  const auto writer = live.quantization->UploadCalibration(&context, &response);
  v1::UploadCalibrationRequest message;
  message.mutable_header()->set_model("mlp");
  writer->Write(message);
  for (int i = 0; i < 2; ++i) {
    message.Clear();
    *message.mutable_sample()->add_inputs() = MlpRequest("mlp", 1).inputs(0);
    if (i == 1) message.mutable_sample()->mutable_inputs(0)->set_data("short");
    writer->Write(message);
  }
  writer->WritesDone();
  const grpc::Status status = writer->Finish();
  EXPECT_EQ(status.error_code(), grpc::INVALID_ARGUMENT);
  EXPECT_THAT(status.error_message(), AllOf(HasSubstr("sample 1"), HasSubstr("got 5 bytes")));
}

TEST(Serving, ExportsWhatCanBeUploadedAgain) {
  LiveServer live;
  ASSERT_THAT(live.Upload("mlp", TinyMlp()), IsOkCall());
  ASSERT_THAT(live.Quantize("mlp", "fp16", nullptr), IsOkCall());
  grpc::ClientContext context;
  v1::ExportVariantRequest request;
  request.set_model("mlp");
  request.mutable_variant()->set_spec_text("fp16");
  const auto reader = live.quantization->ExportVariant(&context, request);
  v1::ExportVariantResponse message;
  ASSERT_TRUE(reader->Read(&message));
  const v1::ExportHeader header = message.header();
  EXPECT_EQ(header.files(0).name(), "model.onnx");
  std::vector<std::string> files(header.files_size());
  v1::ExportFooter footer;
  while (reader->Read(&message)) {
    if (message.has_footer()) footer = message.footer();
    if (!message.has_chunk()) continue;
    std::string& file = files[message.chunk().file_index()];
    EXPECT_EQ(message.chunk().offset(), static_cast<int64_t>(file.size()));
    file += message.chunk().data();
  }
  ASSERT_THAT(reader->Finish(), IsOkCall());
  ASSERT_EQ(footer.files_size(), header.files_size());
  v1::UploadHeader upload;
  upload.set_model("again");
  for (int i = 0; i < footer.files_size(); ++i) {
    EXPECT_EQ(footer.files(i).sha256(), Sha256Hex(files[i]));
    EXPECT_EQ(header.files(i).bytes(), static_cast<int64_t>(files[i].size()));
    *upload.add_files() = footer.files(i);
  }
  grpc::ClientContext upload_context;
  v1::UploadModelResponse uploaded;
  const auto writer = live.models->UploadModel(&upload_context, &uploaded);
  writer->Write(HeaderMessage(upload));
  for (int i = 0; i < footer.files_size(); ++i) writer->Write(ChunkMessage(0, files[i], i));
  writer->WritesDone();
  ASSERT_THAT(writer->Finish(), IsOkCall());
  v1::InferRequest original = MlpRequest("mlp", 3);
  original.mutable_variant()->set_spec_text("fp16");
  EXPECT_EQ(MustInfer(live, MlpRequest("again", 3)).outputs(0).data(),
            MustInfer(live, original).outputs(0).data());
}

TEST(Serving, AnswersManyRequestsOfOneStream) {
  LiveServer live({.max_stream_inflight = 3});
  ASSERT_THAT(live.Upload("mlp", TinyMlp()), IsOkCall());
  grpc::ClientContext context;
  const auto stream = live.inference->InferStream(&context);
  constexpr int kRequests = 40;
  std::thread writer([&stream] {
    for (int i = 0; i < kRequests; ++i) {
      v1::InferRequest request = MlpRequest("mlp", 1 + i % 3, i);
      request.set_id(absl::StrCat(i));
      if (i % 10 == 9) request.mutable_inputs(0)->clear_data();
      stream->Write(request);
    }
    stream->WritesDone();
  });
  std::vector<bool> seen(kRequests, false);
  v1::InferStreamResponse response;
  while (stream->Read(&response)) {
    int id = -1;
    ASSERT_TRUE(absl::SimpleAtoi(response.id(), &id));
    ASSERT_FALSE(seen[id]);
    seen[id] = true;
    if (id % 10 == 9) {
      EXPECT_EQ(response.error().code(), grpc::INVALID_ARGUMENT);
      EXPECT_THAT(response.error().message(), HasSubstr("got 0 bytes"));
      continue;
    }
    ASSERT_TRUE(response.has_response()) << response.error().message();
    const v1::InferRequest request = MlpRequest("mlp", 1 + id % 3, id);
    EXPECT_GT(Sqnr(TinyMlpScores(Floats(request.inputs(0).data())),
                   Floats(response.response().outputs(0).data())),
              100);
  }
  writer.join();
  EXPECT_THAT(stream->Finish(), IsOkCall());
  EXPECT_THAT(seen, Not(Contains(false)));
}

TEST(Serving, SurvivesAStreamThatIsCancelled) {
  LiveServer live;
  ASSERT_THAT(live.Upload("mlp", TinyMlp()), IsOkCall());
  for (int round = 0; round < 5; ++round) {
    grpc::ClientContext context;
    const auto stream = live.inference->InferStream(&context);
    for (int i = 0; i < 20; ++i) stream->Write(MlpRequest("mlp", 1, i));
    context.TryCancel();
    EXPECT_EQ(stream->Finish().error_code(), grpc::CANCELLED);
  }
  MustInfer(live, MlpRequest("mlp", 1));
}

TEST(Serving, GivesRightAnswersToConcurrentClientsOfMixedVariants) {
  LiveServer live({.workers = 2});
  ASSERT_THAT(live.Upload("mlp", TinyMlp()), IsOkCall());
  const std::vector<std::string> specs = {"fp32", "fp16", "bf16", "int8/per-channel/dynamic"};
  for (const std::string& spec : specs) {
    if (spec == "fp32") continue;
    ASSERT_THAT(live.Quantize("mlp", spec, nullptr), IsOkCall());
  }
  std::vector<std::thread> clients;
  for (int c = 0; c < 8; ++c) {
    clients.emplace_back([&, c] {
      for (int i = 0; i < 50; ++i) {
        v1::InferRequest request = MlpRequest("mlp", 1 + (c + i) % 4, c * 100 + i);
        request.mutable_variant()->set_spec_text(specs[(c + i) % specs.size()]);
        const v1::InferResponse response = MustInfer(live, request);
        ASSERT_THAT(response.outputs(), SizeIs(1));
        ASSERT_GT(Sqnr(TinyMlpScores(Floats(request.inputs(0).data())),
                       Floats(response.outputs(0).data())),
                  18);
      }
    });
  }
  for (std::thread& client : clients) client.join();
}

TEST(Serving, ExportsMetrics) {
  LiveServer live;
  ASSERT_THAT(live.Upload("mlp", TinyMlp()), IsOkCall());
  ASSERT_THAT(live.Quantize("mlp", "int8/per-channel/dynamic", nullptr), IsOkCall());
  v1::InferRequest request = MlpRequest("mlp", 1);
  request.mutable_variant()->set_spec_text("int8/per-channel/dynamic");
  for (int i = 0; i < 3; ++i) MustInfer(live, request);
  v1::InferResponse response;
  live.Infer(MlpRequest("nobody", 1), &response);
  const std::string labels = R"(model="mlp",variant="int8/per-channel/dynamic")";
  EXPECT_EQ(live.Metric(
                absl::StrCat("halftone_requests_total{code=\"OK\",method=\"Infer\",", labels, "}")),
            3);
  EXPECT_EQ(live.Metric(R"(halftone_requests_total{code="NOT_FOUND",method="Infer",model="",)"
                        R"(variant=""})"),
            1);
  for (const char* split : {"request", "queue", "compute"}) {
    EXPECT_EQ(
        live.Metric(absl::StrCat("halftone_", split, "_duration_seconds_count{", labels, "}")), 3);
  }
  for (const char* kind : {"weights", "packed", "arena"}) {
    EXPECT_GE(live.Metric(
                  absl::StrCat("halftone_variant_memory_bytes{", labels, ",kind=\"", kind, "\"}")),
              0)
        << kind;
  }
  EXPECT_GT(live.Metric(absl::StrCat("halftone_variant_output_sqnr_db{", labels, "}")), 20);
  EXPECT_GT(live.Metric(absl::StrCat("halftone_variant_speedup_ratio{", labels, "}")), 0);
  EXPECT_GE(live.Metric(R"(halftone_cache_events_total{event="hit"})"), 2);
  EXPECT_EQ(live.Metric(R"(halftone_cache_events_total{event="build"})"), 1);
  EXPECT_GT(live.Metric("process_resident_memory_bytes"), 1e6);
  EXPECT_GE(live.Metric("halftone_worker_threads"), 1);
  EXPECT_GE(live.Metric("halftone_wide_threads"), 1);
  EXPECT_EQ(live.Metric("halftone_wide_runs_total"), 0);  // of so small a model
  EXPECT_EQ(live.Metric("halftone_inflight_requests"), 0);
  EXPECT_EQ(live.Metric("halftone_pending_requests"), 0);

  grpc::ClientContext context;
  v1::DeleteModelRequest deletion;
  deletion.set_name("mlp");
  v1::DeleteModelResponse deleted;
  ASSERT_THAT(live.models->DeleteModel(&context, deletion, &deleted), IsOkCall());
  EXPECT_THAT(live.Scrape(), Not(HasSubstr("mlp")));
}

v1::SampleRequestsResponse SampleRequests(LiveServer& live,
                                          v1::SampleRequestsRequest::Action action,
                                          grpc::Status* status = nullptr) {
  grpc::ClientContext context;
  v1::SampleRequestsRequest request;
  request.set_model("mlp");
  request.set_action(action);
  v1::SampleRequestsResponse response;
  const grpc::Status got = live.quantization->SampleRequests(&context, request, &response);
  if (status != nullptr) {
    *status = got;
  } else {
    EXPECT_THAT(got, IsOkCall());
  }
  return response;
}

TEST(Serving, CalibratesWithLiveRequests) {
  using Request = v1::SampleRequestsRequest;
  LiveServer live;
  ASSERT_THAT(live.Upload("mlp", TinyMlp()), IsOkCall());
  MustInfer(live, MlpRequest("mlp", 1));
  EXPECT_FALSE(SampleRequests(live, Request::ACTION_UNSPECIFIED).on());
  grpc::Status nothing;
  SampleRequests(live, Request::ACTION_SAVE, &nothing);
  EXPECT_EQ(nothing.error_code(), grpc::StatusCode::FAILED_PRECONDITION);

  SampleRequests(live, Request::ACTION_START);
  for (int i = 0; i < 5; ++i) MustInfer(live, MlpRequest("mlp", 1, i));
  const v1::SampleRequestsResponse saved = SampleRequests(live, Request::ACTION_SAVE);
  EXPECT_EQ(saved.held(), 5);
  EXPECT_EQ(saved.set_name(), "live");
  EXPECT_EQ(live.Metric(R"(halftone_live_sample_bytes{model="mlp"})"), 5 * 16);
  v1::QuantizeResult result;
  ASSERT_THAT(live.Quantize("mlp", "int8/calib=live", &result), IsOkCall());
  EXPECT_EQ(result.report().sample_source(), "calibration set 'live' (5 samples)");
  EXPECT_EQ(result.report().spec_text(), "int8/per-channel/static");

  EXPECT_EQ(SampleRequests(live, Request::ACTION_WIPE).held(), 0);
  EXPECT_FALSE(SampleRequests(live, Request::ACTION_STOP).on());
  EXPECT_EQ(live.Metric(R"(halftone_live_sample_bytes{model="mlp"})"), -1);
}

TEST(Serving, ListsAndDeletesVariants) {
  LiveServer live;
  ASSERT_THAT(live.Upload("mlp", TinyMlp()), IsOkCall());
  ASSERT_THAT(live.Quantize("mlp", "fp16", nullptr), IsOkCall());
  const auto specs = [&live] {
    grpc::ClientContext context;
    v1::ListVariantsRequest request;
    request.set_model("mlp");
    v1::ListVariantsResponse response;
    EXPECT_THAT(live.quantization->ListVariants(&context, request, &response), IsOkCall());
    std::vector<std::string> texts;
    for (const v1::Variant& v : response.variants()) texts.push_back(v.spec_text());
    return texts;
  };
  EXPECT_THAT(specs(), ElementsAre("fp32", "fp16"));
  grpc::ClientContext context;
  v1::DeleteVariantRequest request;
  request.set_model("mlp");
  request.mutable_variant()->set_spec_text("fp16");
  v1::DeleteVariantResponse response;
  ASSERT_THAT(live.quantization->DeleteVariant(&context, request, &response), IsOkCall());
  EXPECT_THAT(specs(), ElementsAre("fp32"));
}

TEST(Serving, KeepsModelsAndVariantsAcrossARestart) {
  LiveServer live;
  ASSERT_THAT(live.Upload("mlp", TinyMlp()), IsOkCall());
  v1::QuantizeResult before;
  ASSERT_THAT(live.Quantize("mlp", "int8/per-channel/dynamic", &before), IsOkCall());
  live.Restart();
  v1::InferRequest request = MlpRequest("mlp", 1);
  request.mutable_variant()->set_spec_text("int8/per-channel/dynamic");
  EXPECT_EQ(MustInfer(live, request).variant_id(), before.variant().id());
  EXPECT_EQ(live.Metric(R"(halftone_cache_events_total{event="build"})"), 0);
}

TEST(Serving, RunsTwoServersInOneProcess) {
  LiveServer a, b;
  EXPECT_NE(a.server().port(), b.server().port());
  ASSERT_THAT(a.Upload("mlp", TinyMlp()), IsOkCall());
  MustInfer(a, MlpRequest("mlp", 1));
  v1::InferResponse response;
  EXPECT_EQ(b.Infer(MlpRequest("mlp", 1), &response).error_code(), grpc::NOT_FOUND);
  EXPECT_THAT(b.Scrape(), Not(HasSubstr("mlp")));
}

TEST(OpenInference, AnswersTheSixCoreCalls) {
  LiveServer live;
  ASSERT_THAT(live.Upload("mlp", TinyMlp()), IsOkCall());
  ASSERT_THAT(live.Quantize("mlp", "fp16", nullptr), IsOkCall());
  auto& stub = *live.open_inference;
  {
    grpc::ClientContext context;
    inference::ServerLiveResponse response;
    ASSERT_THAT(stub.ServerLive(&context, {}, &response), IsOkCall());
    EXPECT_TRUE(response.live());
  }
  {
    grpc::ClientContext context;
    inference::ServerReadyResponse response;
    ASSERT_THAT(stub.ServerReady(&context, {}, &response), IsOkCall());
    EXPECT_TRUE(response.ready());
  }
  {
    grpc::ClientContext context;
    inference::ServerMetadataResponse response;
    ASSERT_THAT(stub.ServerMetadata(&context, {}, &response), IsOkCall());
    EXPECT_EQ(response.name(), "halftone");
  }
  const auto ready = [&stub](const std::string& name, const std::string& version) {
    grpc::ClientContext context;
    inference::ModelReadyRequest request;
    request.set_name(name);
    request.set_version(version);
    inference::ModelReadyResponse response;
    const grpc::Status status = stub.ModelReady(&context, request, &response);
    return status.ok() ? (response.ready() ? "ready" : "not ready")
                       : absl::StrCat("error ", status.error_code());
  };
  EXPECT_EQ(ready("mlp", ""), "ready");
  EXPECT_EQ(ready("mlp", "fp16"), "ready");
  EXPECT_EQ(ready("mlp", "bf16"), "not ready");
  EXPECT_EQ(ready("nobody", ""), absl::StrCat("error ", grpc::NOT_FOUND));
  EXPECT_EQ(ready("mlp", "deadbeef"), absl::StrCat("error ", grpc::NOT_FOUND));
  {
    grpc::ClientContext context;
    inference::ModelMetadataRequest request;
    request.set_name("mlp");
    request.set_version("fp16");
    inference::ModelMetadataResponse response;
    ASSERT_THAT(stub.ModelMetadata(&context, request, &response), IsOkCall());
    EXPECT_THAT(response.versions(), ElementsAre("fp16", "fp32"));
    EXPECT_THAT(response.inputs(0).shape(), ElementsAre(-1, 4));
    EXPECT_EQ(response.inputs(0).datatype(), "FP32");
    EXPECT_EQ(response.properties().at("precision"), "fp16");
    EXPECT_EQ(response.properties().count("sqnr_db"), 1u);
  }
  const v1::InferRequest own = MlpRequest("mlp", 2);
  inference::ModelInferRequest request;
  request.set_model_name("mlp");
  request.set_model_version("fp16");
  request.set_id("7");
  auto& input = *request.add_inputs();
  input.set_name("x");
  input.set_datatype("FP32");
  input.add_shape(2);
  input.add_shape(4);
  request.add_raw_input_contents(own.inputs(0).data());
  inference::ModelInferResponse raw;
  {
    grpc::ClientContext context;
    ASSERT_THAT(stub.ModelInfer(&context, request, &raw), IsOkCall());
  }
  EXPECT_EQ(raw.model_version(), "fp16");
  EXPECT_EQ(raw.id(), "7");
  ASSERT_THAT(raw.raw_output_contents(), SizeIs(1));
  EXPECT_GT(Sqnr(TinyMlpScores(Floats(own.inputs(0).data())), Floats(raw.raw_output_contents(0))),
            55);
  request.clear_raw_input_contents();
  for (float v : Floats(own.inputs(0).data())) {
    request.mutable_inputs(0)->mutable_contents()->add_fp32_contents(v);
  }
  grpc::ClientContext context;
  inference::ModelInferResponse typed;
  ASSERT_THAT(stub.ModelInfer(&context, request, &typed), IsOkCall());
  EXPECT_EQ(typed.raw_output_contents(0), raw.raw_output_contents(0));
}

// grpc.health.v1 messages by hand: request { service = 1 }, response { status = 1 }.
std::string HealthRequest(const std::string& service) {
  return absl::StrCat("\x0a", std::string(1, static_cast<char>(service.size())), service);
}
const std::string kServing("\x08\x01", 2);
const std::string kNotServing("\x08\x02", 2);

grpc::Status Health(LiveServer& live, const std::string& service, std::string* answer) {
  RawStream call(live.channel(), "/grpc.health.v1.Health/Check", HealthRequest(service));
  answer->clear();
  call.Read(answer);
  return call.Finish();
}

TEST(HealthService, KnowsItsNames) {
  LiveServer live;
  std::string answer;
  for (const char* name :
       {"", "inference.GRPCInferenceService", "halftone.v1.ModelService",
        "halftone.v1.QuantizationService", "halftone.v1.InferenceService", "liveness"}) {
    ASSERT_THAT(Health(live, name, &answer), IsOkCall()) << name;
    EXPECT_EQ(answer, kServing) << name;
  }
  EXPECT_EQ(Health(live, "nobody", &answer).error_code(), grpc::NOT_FOUND);
}

TEST(HealthService, WatchersHearOfTheDrainAndLivenessStays) {
  LiveServer live;
  RawStream watch(live.channel(), "/grpc.health.v1.Health/Watch", HealthRequest(""));
  std::string answer;
  ASSERT_TRUE(watch.Read(&answer));
  EXPECT_EQ(answer, kServing);
  live.server().BeginDrain();
  ASSERT_TRUE(watch.Read(&answer));
  EXPECT_EQ(answer, kNotServing);
  ASSERT_THAT(Health(live, "liveness", &answer), IsOkCall());
  EXPECT_EQ(answer, kServing);
  // Draining still serves.
  EXPECT_THAT(live.Upload("mlp", TinyMlp()), IsOkCall());
  MustInfer(live, MlpRequest("mlp", 1));
}

TEST(Reflection, ListsTheServices) {
  LiveServer live;
  const std::string list_services("\x3a\x01*", 3);
  RawStream call(live.channel(), "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
                 list_services);
  std::string answer;
  ASSERT_TRUE(call.Read(&answer));
  for (const char* service : {"halftone.v1.ModelService", "halftone.v1.QuantizationService",
                              "halftone.v1.InferenceService", "inference.GRPCInferenceService"}) {
    EXPECT_THAT(answer, HasSubstr(service));
  }
}

TEST(Shutdown, CancelsARequestThatWaitsForABuild) {
  auto live = std::make_unique<LiveServer>();
  ASSERT_THAT(live->Upload("mlp", TinyMlp()), IsOkCall());
  std::vector<std::thread> clients;
  for (int i = 0; i < 4; ++i) {
    clients.emplace_back([&live] {
      v1::InferRequest request = MlpRequest("mlp", 1);
      request.mutable_variant()->set_spec_text("int8/per-channel/weight-only");
      v1::InferResponse response;
      // Answered or refused, but not left hanging.
      live->Infer(request, &response);
    });
  }
  live->server().Shutdown(absl::Now() + absl::Milliseconds(50));
  for (std::thread& client : clients) client.join();
}

}  // namespace
}  // namespace halftone
