// Whole command lines against a fake server.
#include "client/cli.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <iterator>
#include <sstream>

#include "client/json.h"
#include "client/tensor_files.h"
#include "tests/testing/status_matchers.h"
#include "tests/unit/client/fake_server.h"

namespace halftone {
namespace {

using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::SizeIs;

struct Outcome {
  int code = 0;
  std::string out;
  std::string err;
};

Outcome RunWithoutServer(const std::vector<std::string>& arguments) {
  std::ostringstream out, err;
  const int code = RunClient(arguments, {.out = out, .err = err});
  return {code, out.str(), err.str()};
}

class Cli : public testing::Test {
 protected:
  Cli() : folder_(std::filesystem::path(testing::TempDir()) / "cli_test") {
    std::filesystem::remove_all(folder_);
    std::filesystem::create_directories(folder_);
  }
  ~Cli() override { std::filesystem::remove_all(folder_); }

  Outcome Run(std::vector<std::string> arguments) {
    arguments.insert(arguments.end(), {"--server", server_.address()});
    return RunWithoutServer(arguments);
  }
  Json RunJson(std::vector<std::string> arguments) {
    arguments.push_back("--json");
    const Outcome outcome = Run(arguments);
    EXPECT_EQ(outcome.code, 0) << outcome.err;
    return Json::parse(outcome.out);
  }
  std::string Path(const std::string& name) const { return (folder_ / name).string(); }
  std::string WriteText(const std::string& name, const std::string& bytes) {
    std::ofstream(Path(name), std::ios::binary) << bytes;
    return Path(name);
  }
  std::string WriteTensor(const std::string& name, const Tensor& tensor) {
    EXPECT_THAT(WriteTensorFile(Path(name), "x", tensor), IsOk());
    return Path(name);
  }
  std::string ReadText(const std::string& path) {
    std::ifstream file(path, std::ios::binary);
    return std::string(std::istreambuf_iterator<char>(file), {});
  }
  const Tensor rows_ = Tensor::Of<float>({3, 2}, {0, 1, 2, 3, 4, 5});

  std::filesystem::path folder_;
  FakeServer server_;
};

// --- upload ---

TEST_F(Cli, UploadSendsEveryByteOfEveryFile) {
  const std::string weights(3'000'001, 'w');
  const Outcome outcome =
      Run({"upload", "m", WriteText("m.onnx", "model"), WriteText("w.bin", weights)});
  EXPECT_EQ(outcome.code, 0) << outcome.err;
  EXPECT_THAT(outcome.out, AllOf(HasSubstr("model"), HasSubstr("x FP32[batch,2]")));
  EXPECT_THAT(server_.models.files, ElementsAre("model", weights));
  EXPECT_EQ(server_.models.header.files(1).name(), "w.bin");
  EXPECT_EQ(server_.models.header.files(1).bytes(), 3'000'001);
}

TEST_F(Cli, UploadGoesOnWhereAnEarlierOneStopped) {
  const std::string bytes = "0123456789";
  server_.models.files = {bytes.substr(0, 4)};
  const Json result = RunJson({"upload", "m", WriteText("m.onnx", bytes)});
  EXPECT_EQ(result["resumed_bytes"], 4);
  EXPECT_EQ(result["model"]["version"], 1);
  EXPECT_THAT(server_.models.files, ElementsAre(bytes));
}

TEST_F(Cli, UploadSurvivesBrokenConnections) {
  server_.models.break_uploads = 2;
  server_.models.break_after_bytes = 1 << 20;
  const std::string bytes(4 << 20, 'b');
  const Outcome outcome = Run({"upload", "m", WriteText("m.onnx", bytes)});
  EXPECT_EQ(outcome.code, 0) << outcome.err;
  EXPECT_EQ(server_.models.break_uploads, 0);
  EXPECT_THAT(server_.models.files, ElementsAre(bytes));
}

TEST_F(Cli, UploadGivesUpWhenNothingComesAcross) {
  server_.models.break_uploads = 1000;
  const Outcome outcome = Run({"upload", "m", WriteText("m.onnx", "0123456789")});
  EXPECT_EQ(outcome.code, 1);
  EXPECT_THAT(outcome.err, HasSubstr("UNAVAILABLE: connection broken"));
  EXPECT_EQ(server_.models.break_uploads, 998);  // one more try, then the end
}

TEST_F(Cli, UploadNamesTheFileThatIsMissing) {
  const Outcome outcome = Run({"upload", "m", Path("absent.onnx")});
  EXPECT_EQ(outcome.code, 1);
  EXPECT_THAT(outcome.err, HasSubstr("absent.onnx"));
}

// --- lists ---

TEST_F(Cli, ListsModelsAndVariants) {
  EXPECT_THAT(Run({"ls"}).out, AllOf(HasSubstr("MODEL"), HasSubstr("1.23 kB")));
  EXPECT_EQ(RunJson({"ls"})["models"][0]["bytes"], 1234);
  EXPECT_THAT(Run({"ls", "m"}).out, AllOf(HasSubstr("loaded"), HasSubstr("1.50 kB")));
  const Json shown = RunJson({"show", "m"});
  EXPECT_EQ(shown["model"]["name"], "m");
  EXPECT_EQ(shown["variants"][0]["spec_text"], "fp32");
}

TEST_F(Cli, Removes) { EXPECT_EQ(Run({"rm", "m"}).out, "deleted m\n"); }

// --- quantization ---

TEST_F(Cli, QuantizeShowsProgressAndReport) {
  const Outcome outcome = Run({"quantize", "m", "fp16"});
  EXPECT_EQ(outcome.code, 0) << outcome.err;
  EXPECT_THAT(outcome.err, HasSubstr("quantize (50 %)"));
  EXPECT_THAT(outcome.out, HasSubstr("37.2 dB"));
}

TEST_F(Cli, QuantizeUploadsCalibrationRowsFirstAndUsesTheirSet) {
  const Json result = RunJson({"quantize", "m", "int8/per-tensor/static", "--calibration",
                               WriteTensor("c.npy", rows_), "--calibration-set", "mine"});
  EXPECT_EQ(server_.quantization.spec_text, "int8/per-tensor/static/calib=mine");
  EXPECT_EQ(server_.quantization.set_name, "mine");
  ASSERT_THAT(server_.quantization.samples, SizeIs(3));
  EXPECT_THAT(server_.quantization.samples[2].inputs(0).shape(), ElementsAre(1, 2));
  EXPECT_EQ(result["report"]["sqnr_db"], 37.25);
}

TEST_F(Cli, CalibrateCountsItsSamples) {
  const std::string file = WriteTensor("c.npy", rows_);
  EXPECT_THAT(Run({"calibrate", "m", "x=" + file, "--name", "s"}).out,
              HasSubstr("calibration set 's' has 3 samples"));
}

TEST_F(Cli, ReportListsCoverageAndLayers) {
  const Outcome outcome = Run({"report", "m", "int8"});
  EXPECT_THAT(outcome.out, AllOf(HasSubstr("Conv"), HasSubstr("its weights are no constant"),
                                 HasSubstr("21.5 dB")));
}

TEST_F(Cli, ReportWritesAPageWhenAskedTo) {
  const Outcome outcome = Run({"report", "m", "int8", "--html", Path("page.html")});
  EXPECT_EQ(outcome.out, Path("page.html") + "\n");
  EXPECT_EQ(ReadText(Path("page.html")), "<html>page</html>");
  const Json json = RunJson({"report", "m", "int8", "--html", Path("page.html")});
  EXPECT_EQ(json["spec_text"], "int8");
  EXPECT_EQ(json["html"], "");
}

TEST_F(Cli, ExportWritesCompleteFiles) {
  server_.quantization.exported = {{"model.onnx", "graph"}, {"weights.bin", "0123456789"}};
  const Json result = RunJson({"export", "m", "int8", "-o", Path("out/deep")});
  EXPECT_THAT(result["files"],
              ElementsAre(Path("out/deep/model.onnx"), Path("out/deep/weights.bin")));
  EXPECT_EQ(ReadText(Path("out/deep/weights.bin")), "0123456789");
}

TEST_F(Cli, ExportLeavesNothingBehindWhenBytesAreWrong) {
  server_.quantization.exported = {{"model.onnx", "graph"}};
  server_.quantization.wrong_digest = std::string(64, '0');
  const Outcome outcome = Run({"export", "m", "int8", "-o", Path("out")});
  EXPECT_EQ(outcome.code, 1);
  EXPECT_THAT(outcome.err, HasSubstr("DATA_LOSS"));
  EXPECT_TRUE(std::filesystem::is_empty(Path("out")));
}

TEST_F(Cli, ExportRefusesFileNamesWithFolders) {
  for (const std::string name : {"../evil", "/tmp/evil", "a/b", ".."}) {
    server_.quantization.exported = {{name, "x"}};
    EXPECT_THAT(Run({"export", "m", "int8", "-o", Path("out")}).err, HasSubstr("want a plain one"))
        << name;
  }
}

// --- inference ---

TEST_F(Cli, InferPrintsSmallOutputs) {
  const Outcome outcome = Run({"infer", "m", "--input", WriteTensor("x.npy", rows_)});
  EXPECT_EQ(outcome.code, 0) << outcome.err;
  EXPECT_THAT(outcome.out, AllOf(HasSubstr("f32[3,2]"), HasSubstr("answered by")));
}

TEST_F(Cli, InferJsonHasTheNumbers) {
  const Json result =
      RunJson({"infer", "m", "--variant", "bf16", "--input", "x=" + WriteTensor("x.pb", rows_),
               "--when-missing", "fallback", "--repeat", "5", "--timings"});
  EXPECT_EQ(result["spec_text"], "bf16");
  EXPECT_EQ(result["fell_back"], true);
  EXPECT_EQ(result["requests"], 5);
  EXPECT_EQ(result["latency_seconds"]["count"], 5);
  EXPECT_EQ(result["timings"]["compute"], 0.002);
  EXPECT_THAT(result["outputs"][0]["data"], ElementsAre(0, 1, 2, 3, 4, 5));
}

TEST_F(Cli, InferRowByRowJoinsTheAnswers) {
  const std::string input = WriteTensor("x.npy", rows_);
  const Json result = RunJson({"infer", "m", "--input", input, "--each-row", "--output",
                               Path("y.npy"), "--latencies", Path("l.npy"), "--warmup", "2"});
  EXPECT_EQ(result["requests"], 3);
  HT_ASSERT_OK_AND_ASSIGN(const Tensor y, ReadTensorFile(Path("y.npy")));
  EXPECT_EQ(y.shape(), rows_.shape());
  EXPECT_EQ(y.bytes(), rows_.bytes());
  HT_ASSERT_OK_AND_ASSIGN(const Tensor latencies, ReadTensorFile(Path("l.npy")));
  EXPECT_THAT(latencies.data<double>(), SizeIs(3));
}

TEST_F(Cli, InferWritesIntoAFolderWhenTheOutputLooksLikeOne) {
  EXPECT_EQ(Run({"infer", "m", "--input", WriteTensor("x.npy", rows_), "--output", Path("o")}).code,
            0);
  EXPECT_TRUE(std::filesystem::exists(Path("o/y.npy")));
}

TEST_F(Cli, InferTakesRawFilesInTheShapeOfTheModel) {
  const std::string input = WriteTensor("x.raw", rows_);
  EXPECT_THAT(Run({"infer", "m", "--input", input}).out, HasSubstr("f32[3,2]"));
  EXPECT_THAT(Run({"infer", "m", "--input", input, "--shape", "x=1,6"}).out, HasSubstr("f32[1,6]"));
}

TEST_F(Cli, BenchMeasuresEveryVariant) {
  const Json result = RunJson({"bench", "m", "--variant", "fp32", "--variant", "int8",
                               "--concurrency", "2", "--duration", "0.05", "--warmup", "0"});
  ASSERT_THAT(result["results"], SizeIs(2));
  EXPECT_EQ(result["results"][1]["variant"], "int8");
  EXPECT_GT(result["results"][1]["requests_per_second"], 0);
  EXPECT_EQ(result["results"][1]["errors"], 0);
}

TEST_F(Cli, HealthSaysWhoAnswers) {
  EXPECT_THAT(Run({"health"}).out, AllOf(HasSubstr("halftone 9.9"), HasSubstr("SERVING")));
  server_.grpc_server().GetHealthCheckService()->SetServingStatus(false);
  const Outcome outcome = Run({"health"});
  EXPECT_EQ(outcome.code, 1);
  EXPECT_THAT(outcome.err, HasSubstr("NOT_SERVING"));
}

// --- errors ---

TEST_F(Cli, ServerMessagesComeThroughAsTheyAre) {
  const Outcome outcome = Run({"quantize", "m", "int9"});
  EXPECT_EQ(outcome.code, 1);
  EXPECT_THAT(outcome.err, HasSubstr("halftone quantize: INVALID_ARGUMENT: spec 'int9': got "
                                     "'int9' at 0, want a type\n"));
  EXPECT_THAT(outcome.err, Not(HasSubstr("hint")));
}

TEST_F(Cli, ErrorsAreJsonToo) {
  const Outcome outcome = Run({"show", "nobody", "--json"});
  EXPECT_EQ(outcome.code, 1);
  const Json json = Json::parse(outcome.out);
  EXPECT_EQ(json["error"]["code"], "NOT_FOUND");
  EXPECT_EQ(json["error"]["message"], "model 'nobody': unknown");
}

TEST_F(Cli, WrongInputNamesAreExplained) {
  const Outcome outcome = Run({"infer", "m", "--input", "z=" + WriteTensor("x.npy", rows_)});
  EXPECT_EQ(outcome.code, 1);
  EXPECT_THAT(outcome.err, HasSubstr("the model has no input 'z', it has 'x'"));
}

TEST(CliWithoutServer, HintsWhereToLookWhenNobodyAnswers) {
  // A port that was free a moment ago and is closed again.
  std::string address;
  {
    FakeServer server;
    address = server.address();
  }
  const Outcome outcome = RunWithoutServer({"ls", "--server", address});
  EXPECT_EQ(outcome.code, 1);
  EXPECT_THAT(outcome.err, HasSubstr("hint: is halftone-server running at " + address));
}

TEST(CliWithoutServer, UsageErrorsHaveCode2) {
  for (const std::vector<std::string>& line : std::vector<std::vector<std::string>>{
           {},
           {"frobnicate"},
           {"upload"},
           {"quantize", "m"},
           {"infer", "m"},
           {"infer", "m", "--input", "x", "--when-missing", "maybe"},
           {"ls", "--timeout", "soon"},
           {"bench", "m", "--concurrency", "0"}}) {
    EXPECT_EQ(RunWithoutServer(line).code, 2) << testing::PrintToString(line);
  }
}

TEST(CliWithoutServer, HelpListsEveryCommand) {
  const Outcome outcome = RunWithoutServer({"--help"});
  EXPECT_EQ(outcome.code, 0);
  for (const std::string name : {"upload", "ls", "show", "rm", "quantize", "plan", "calibrate",
                                 "report", "export", "infer", "bench", "health", "convert"}) {
    EXPECT_THAT(outcome.out, HasSubstr("  " + name + " "));
    EXPECT_EQ(RunWithoutServer({name, "--help"}).code, 0) << name;
  }
}

TEST(CliWithoutServer, ConvertNamesTheFileItCannotRead) {
  const Outcome outcome =
      RunWithoutServer({"convert", "/nowhere/m.onnx", "--to", "fp16", "-o", "/nowhere/o.onnx"});
  EXPECT_EQ(outcome.code, 1);
  EXPECT_THAT(outcome.err, HasSubstr("/nowhere/m.onnx"));
}

}  // namespace
}  // namespace halftone
