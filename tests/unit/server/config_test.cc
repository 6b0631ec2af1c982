#include "server/config.h"

#include <gmock/gmock.h>

#include <fstream>

#include "tests/testing/status_matchers.h"

namespace halftone {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using enum absl::StatusCode;

absl::StatusOr<CommandLine> Parse(std::vector<std::string> args) { return ParseCommandLine(args); }

TEST(ParseCommandLine, HasWorkingDefaults) {
  HT_ASSERT_OK_AND_ASSIGN(const CommandLine line, Parse({}));
  EXPECT_EQ(line.config, ServerConfig());
  EXPECT_EQ(line.config.port, 8001);
  EXPECT_EQ(line.config.metrics_port, 8002);
  EXPECT_EQ(line.config.max_message_bytes, 128 << 20);
}

TEST(ParseCommandLine, ReadsEveryKind) {
  HT_ASSERT_OK_AND_ASSIGN(const CommandLine line,
                          Parse({"--port=0", "--store", "/var/lib/x", "--drain-delay=1m30s",
                                 "--max_upload_bytes=3GiB", "--noreflection"}));
  EXPECT_EQ(line.config.port, 0);
  EXPECT_EQ(line.config.store, "/var/lib/x");
  EXPECT_EQ(line.config.drain_delay, absl::Seconds(90));
  EXPECT_EQ(line.config.max_upload_bytes, int64_t{3} << 30);
  EXPECT_FALSE(line.config.reflection);
}

TEST(ParseCommandLine, NamesTheNearestSetting) {
  const auto names_it = StatusIs(kInvalidArgument, AllOf(HasSubstr("'max_queued_request'"),
                                                         HasSubstr("'max_queued_requests'")));
  EXPECT_THAT(Parse({"--max_queued_request=3"}), names_it);
  EXPECT_THAT(Parse({"--max-queued-request", "3"}), names_it);
}

struct BadFlag {
  std::string name;
  std::string arg;
  std::string message;
};
class BadFlags : public testing::TestWithParam<BadFlag> {};
TEST_P(BadFlags, AreRefused) {
  EXPECT_THAT(Parse({GetParam().arg}), StatusIs(kInvalidArgument, HasSubstr(GetParam().message)));
}
INSTANTIATE_TEST_SUITE_P(
    CommandLine, BadFlags,
    testing::Values(BadFlag{"Port", "--port=70000",
                            "setting 'port': got '70000', want a whole number from 0"},
                    BadFlag{"NotANumber", "--workers=two", "got 'two'"},
                    BadFlag{"Bytes", "--max_upload_bytes=1PB", "512MiB"},
                    BadFlag{"BytesOverflow", "--max_upload_bytes=99999999999GiB", "want bytes"},
                    BadFlag{"Duration", "--drain_delay=5", "want a duration"},
                    BadFlag{"NegativeDuration", "--drain_delay=-5s", "want a duration"},
                    BadFlag{"Switch", "--reflection=maybe", "true or false"},
                    BadFlag{"NoValue", "--port", "want a value"},
                    BadFlag{"NoFlag", "port", "want flags"}),
    [](const auto& info) { return info.param.name; });

TEST(ApplyConfigText, ReadsYamlAndJson) {
  for (const char* text : {"port: 9000\nstore: /s\nreflection: false\n",
                           R"({"port": 9000, "store": "/s", "reflection": false})"}) {
    ServerConfig config;
    HT_ASSERT_OK(ApplyConfigText(text, config));
    EXPECT_EQ(config.port, 9000);
    EXPECT_EQ(config.store, "/s");
    EXPECT_FALSE(config.reflection);
  }
}

TEST(ApplyConfigText, LeavesTheConfigAloneWhenItFails) {
  for (const char* text :
       {"port: 9000\nprot: 1\n", "port: [1]", "- a", "port: 9000\nworkers: x", "{a: b", "\t: :"}) {
    ServerConfig config;
    EXPECT_THAT(ApplyConfigText(text, config), StatusIs(kInvalidArgument)) << text;
    EXPECT_EQ(config, ServerConfig()) << text;
  }
}

TEST(ApplyConfigText, AcceptsAnEmptyFile) {
  ServerConfig config;
  HT_EXPECT_OK(ApplyConfigText("", config));
  HT_EXPECT_OK(ApplyConfigText("# nothing\n", config));
}

TEST(ParseCommandLine, FlagsWinOverTheFile) {
  const std::string path = testing::TempDir() + "/flags_win.yaml";
  std::ofstream(path) << "port: 1234\nworkers: 3\n";
  HT_ASSERT_OK_AND_ASSIGN(const CommandLine line, Parse({"--port=5", "--config", path}));
  EXPECT_EQ(line.config.port, 5);
  EXPECT_EQ(line.config.workers, 3);
}

TEST(ParseCommandLine, NamesAFileThatIsNotThere) {
  EXPECT_THAT(Parse({"--config=/does/not/exist.yaml"}),
              StatusIs(kNotFound, HasSubstr("/does/not/exist.yaml")));
}

TEST(ConfigHelp, ListsSettingsWithDefaults) {
  EXPECT_THAT(ConfigHelp(), AllOf(HasSubstr("--port (default 8001)"),
                                  HasSubstr("--max_message_bytes (default 128MiB)"),
                                  HasSubstr("--drain_delay (default 5s)")));
}

}  // namespace
}  // namespace halftone
