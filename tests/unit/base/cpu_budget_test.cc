#include "core/base/cpu_budget.h"

#include <gmock/gmock.h>

#include <filesystem>
#include <fstream>

namespace halftone {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;
using ::testing::Optional;

TEST(ParseCpuMax, GivesCpus) {
  EXPECT_THAT(ParseCpuMax("150000 100000\n"), Optional(1.5));
  EXPECT_THAT(ParseCpuMax("50000 100000"), Optional(0.5));
}

TEST(ParseCpuMax, HasNoLimitForMaxAndNonsense) {
  for (const char* text : {"max 100000\n", "", "12", "a b", "-1 100000", "100000 0", "1 2 3"}) {
    EXPECT_EQ(ParseCpuMax(text), std::nullopt) << text;
  }
}

TEST(ParseCfsQuota, TreatsMinusOneAsNoLimit) {
  EXPECT_EQ(ParseCfsQuota("-1\n", "100000\n"), std::nullopt);
  EXPECT_THAT(ParseCfsQuota("400000\n", "100000\n"), Optional(4.0));
}

TEST(ParseMemoryMax, GivesBytes) {
  EXPECT_THAT(ParseMemoryMax("2147483648\n"), Optional(int64_t{1} << 31));
  EXPECT_EQ(ParseMemoryMax("max\n"), std::nullopt);
}

TEST(CgroupFolders, ListsV2WithParents) {
  EXPECT_THAT(CgroupFolders("0::/kube/pod1\n", "cpu"),
              ElementsAre("/sys/fs/cgroup/kube/pod1", "/sys/fs/cgroup/kube", "/sys/fs/cgroup"));
  EXPECT_THAT(CgroupFolders("0::/\n", "cpu"), ElementsAre("/sys/fs/cgroup"));
}

TEST(CgroupFolders, FindsTheV1ControllerAmongItsMounts) {
  EXPECT_THAT(CgroupFolders("4:cpu,cpuacct:/docker/x\n3:memory:/y\n", "cpu"),
              ElementsAre("/sys/fs/cgroup/cpu/docker/x", "/sys/fs/cgroup/cpu/docker",
                          "/sys/fs/cgroup/cpu"));
  EXPECT_THAT(CgroupFolders("garbage\n", "cpu"), IsEmpty());
}

TEST(CoresFrom, RoundsTheQuotaUpAndRespectsTheMask) {
  EXPECT_EQ(CoresFrom(std::nullopt, 8), 8);
  EXPECT_EQ(CoresFrom(1.5, 8), 2);
  EXPECT_EQ(CoresFrom(0.2, 8), 1);
  EXPECT_EQ(CoresFrom(16.0, 4), 4);
  EXPECT_EQ(CoresFrom(std::nullopt, 0), 1);
}

class FakeRoot : public testing::Test {
 protected:
  void Write(const std::string& path, const std::string& text) {
    const std::filesystem::path full = root_ + path;
    std::filesystem::create_directories(full.parent_path());
    std::ofstream(full) << text;
  }
  void TearDown() override { std::filesystem::remove_all(root_); }
  const std::string root_ = testing::TempDir() + "/cpu_budget_" +
                            testing::UnitTest::GetInstance()->current_test_info()->name();
};

TEST_F(FakeRoot, SmallestLimitOfAllParentsCounts) {
  Write("/proc/self/cgroup", "0::/kube/pod\n");
  Write("/sys/fs/cgroup/kube/pod/cpu.max", "max 100000\n");
  Write("/sys/fs/cgroup/kube/cpu.max", "300000 100000\n");
  Write("/sys/fs/cgroup/kube/pod/memory.max", "1000000\n");
  Write("/sys/fs/cgroup/kube/memory.max", "4000000\n");
  EXPECT_THAT(ReadCpuQuota(root_), Optional(3.0));
  EXPECT_EQ(ReadMemoryLimit(root_), 1000000);
}

TEST_F(FakeRoot, ReadsV1) {
  Write("/proc/self/cgroup", "4:cpu,cpuacct:/\n3:memory:/\n");
  Write("/sys/fs/cgroup/cpu/cpu.cfs_quota_us", "250000\n");
  Write("/sys/fs/cgroup/cpu/cpu.cfs_period_us", "100000\n");
  Write("/sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n");
  Write("/proc/meminfo", "MemTotal:       2048 kB\nMemFree: 1 kB\n");
  EXPECT_THAT(ReadCpuQuota(root_), Optional(2.5));
  EXPECT_EQ(ReadMemoryLimit(root_), 2048 * 1024);
}

TEST_F(FakeRoot, HasNoQuotaWithoutCgroups) {
  EXPECT_EQ(ReadCpuQuota(root_), std::nullopt);
  EXPECT_EQ(ReadMemoryLimit(root_), 0);
  EXPECT_GE(CpuBudget(root_), 1);
}

}  // namespace
}  // namespace halftone
