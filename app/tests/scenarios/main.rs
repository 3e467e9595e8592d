//! The collector as its users run it, on registries 2.8 and 3.1.1 as they are: every scenario of FACTS section 8. What is needed
//! must be in the storage afterwards and pull through the registry, and what is not must be gone.
//!
//! | number | where | beside that |
//! |---|---|---|
//! | 1, 2 | [`needed`]`::a_tagged_index_keeps_its_untagged_children_at_any_depth` | core `gc/tests/reached.rs` |
//! | 3 | [`needed`]`::a_child_that_one_repository_lost_is_kept_for_the_other` | core `gc/tests/reached.rs` |
//! | 4 | [`needed`]`::a_child_that_only_another_repository_lists_stays_whole` | core `gc/tests/untagged.rs` |
//! | 5 | [`needed`]`::an_untagged_index_goes_and_its_tagged_child_stays` | core `gc/tests/untagged.rs` |
//! | 6 | [`needed`]`::what_two_indexes_share_goes_with_the_last_of_them` | cases `fate.rs` |
//! | 7 | [`needed`]`::an_image_keeps_with_its_last_tag` | cases `fate.rs` |
//! | 8, 9 | [`needed`]`::what_is_about_an_image_stays_until_that_goes` | cases `fate.rs`, for cosign's tags; core `gc/tests/untagged.rs`, for cycles |
//! | 10 | [`needed`]`::a_layer_uploaded_by_sha512_stays_and_goes_with_both_its_links` | core `gc/tests/reached.rs` |
//! | 11 | [`needed`]`::schema_1_keeps_its_layers` | core `gc/tests/reached.rs` |
//! | 12 | [`needed`]`::an_empty_index_stops_nothing` | cases `collect.rs` |
//! | 13 | [`needed`]`::a_build_cache_keeps_its_layers` | cases `fate.rs` |
//! | 14 | [`needed`]`::manifests_without_a_media_type_are_known_by_what_they_list` | core `gc/tests/reached.rs` |
//! | 15 | [`broken`]`::an_empty_revision_link_is_a_root_all_the_same` | core `gc/tests/broken.rs` |
//! | 16 | [`broken`]`::a_tag_that_says_nothing_keeps_every_manifest_of_its_repository` | core `gc/tests/broken.rs` |
//! | 17 | [`broken`]`::a_torn_manifest_spares_what_its_repository_links_and_nothing_else` | core `gc/tests/broken.rs` |
//! | 18 | [`broken`]`::a_link_to_a_manifest_that_is_missing_stops_nothing` | core `gc/tests/reached.rs` |
//! | 19 | [`broken`]`::a_repository_without_layers_has_roots_and_one_without_manifests_has_none` | core `gc/tests/reached.rs` |
//! | 20 | [`needed`]`::an_image_without_a_tag_goes_only_where_that_is_asked_for` | core `gc/tests/untagged.rs` |
//! | 21 | [`young`]`::what_was_uploaded_a_moment_ago_stays_whatever_its_files_say` | core `gc/tests/grace.rs` |
//! | 22 | [`young`]`::an_old_blob_that_was_mounted_a_moment_ago_stays` | core `gc/tests/grace.rs` |
//! | 23 | [`young`]`::an_image_pushed_before_the_registry_is_closed_keeps_old_garbage` | core `gc/tests/late.rs` |
//! | 24 | windows `modes.rs`: `what_is_hidden_while_a_request_counts_on_it_comes_back`, `what_a_request_wrote_while_the_registry_was_being_closed_is_kept`, `what_dies_with_the_registry_was_not_accepted` | windows `direct.rs`, that others lose what ours keeps |
//! | 25 | [`young`]`::a_manifest_pushed_again_while_it_is_hidden_stays`, `what_the_registry_still_counted_on_is_brought_back` | |
//! | 26 | [`young`]`::a_blob_uploaded_again_while_it_is_hidden_is_the_new_one` | `conformance.rs` of every storage |
//! | 27 | [`killed`]`::offline_it_may_be_killed_anywhere`, `while_the_registry_is_closed_it_may_be_killed_anywhere`, `while_garbage_is_hidden_it_may_be_killed_anywhere`; [`killed_for_real`]`::killed_at_every_moment`; [`alone`]`::what_a_killed_run_had_hidden_its_undo_brings_back`; on object stores storage `killed.rs` | cases `crash.rs`, docker `collecting.rs` |
//! | 28 | [`young`]`::a_cache_in_memory_is_emptied_or_refused`; [`locks`]`::a_cache_that_only_the_registrys_process_tells_of_counts`, `a_restart_that_did_not_happen_is_seen`; [`cached`]`::what_is_collected_is_forgotten` for Redis; cases `bucket.rs`: `a_cache_that_nobody_told_of_is_found_out_by_asking_for_what_is_gone` | cases `collect.rs` |
//! | 29 | cases `bucket.rs`: `a_tag_that_registry_2_leaves_in_its_bucket_is_removed_there_and_no_other` | cases `stored.rs` |
//! | 30 | cases `bucket.rs`: `a_tag_that_registry_3_hides_protects_its_image_and_expires_as_any_other` | cases `fate.rs`; over the API alone the hint of `collect.rs`: `HidesTags` |
//! | 31 | cases `closed.rs`: `a_catalog_of_many_pages_on_2`, `a_catalog_of_many_pages_on_3` | [`needed`] reads no catalog |
//! | 32 | cases `bucket.rs`: `repositories_whose_names_extend_each_other_are_all_cleaned` | |
//! | 33 | `inprocess/main.rs`: `who_does_not_accept_a_type_is_told_something_else` | `requests.rs` |
//! | 34 | cases `stored.rs`: `an_error_after_the_deed_is_seen_through`; `faults.rs`: `an_error_for_a_deletion_that_was_done_is_seen_through` | |
//! | 35 | cases `closed.rs`: `deleting_is_switched_off`, `the_registry_is_read_only`, `the_user_may_only_read`; `faults.rs`: `a_registry_that_is_asked_too_much_is_given_time` | |
//! | 36 | cases `fate.rs`: `a_plan_cannot_delete_a_layer` | |
//! | 37 | cases `fate.rs`: `an_emptied_repository_is_nothing_to_do` | |
//! | 38 | cases `fate.rs`: `dates_that_say_nothing_keep` | |
//! | 39 | [`locks`]`::the_second_of_two_collections_is_locked_out`, `the_registrys_own_collector_at_work_is_seen` | cases `closed.rs` |
//! | 40 | [`locks`]`::the_storage_of_a_pull_through_cache_is_refused` | cases `collect.rs` |
//! | 41 | [`broken`]`::what_no_registry_wrote_is_left_alone` | core `gc/tests/tidy.rs` |
//! | 42 | [`broken`]`::a_layer_that_was_never_stored_is_no_error` | core `gc/tests/reached.rs` |
//! | 43 | [`faults`]`::a_storage_whose_clock_is_a_day_off_is_collected_by_its_own_clock` | core `gc/tests/grace.rs` |
//! | 44 | [`faults`]`::a_listing_that_fails_ends_it_before_anything_is_changed`, `a_manifest_that_may_not_be_read_spares_what_its_repository_links_and_the_rest_goes`, `a_file_that_may_not_be_touched_is_named_and_the_rest_goes`; on S3 storage `faulty.rs` | storage `failing.rs` |
//! | 45 | [`planned`]`::a_plan_writes_nothing_and_names_exactly_what_would_go`; on object stores storage `collecting.rs`: `is_planned_and_collected`, windows `touch.rs`: `a_plan_only_asks_and_does_so_while_another_collects` | |
//! | 46 | [`needed`]`::a_layer_that_another_manifest_of_the_repository_needs_keeps_its_link` | core `gc/tests/reached.rs` |
//! | 47 | [`planned`]`::the_bytes_that_are_freed_are_those_of_what_is_gone_each_blob_once` | core `gc/tests/reached.rs` |

#[expect(dead_code, reason = "containers have tests of their own")]
#[path = "../support/container.rs"]
mod container;
#[expect(dead_code, reason = "the stage runs the program by itself")]
#[path = "../support/program.rs"]
mod program;
#[path = "../support/push.rs"]
mod push;
#[path = "../support/redis.rs"]
mod redis_server;
#[expect(dead_code, reason = "the stage starts registries that can be stopped and started again")]
#[path = "../support/registry.rs"]
mod registry;
#[path = "../support/server.rs"]
#[expect(dead_code, reason = "Redis needs neither a folder nor an address for a browser")]
mod server;

/// Makes of each scenario a test per registry, each in one of the ways to collect.
macro_rules! scenarios {
    ($($scenario:ident: $on_2:ident, $on_3:ident;)+) => { $(
        mod $scenario {
            use clean_registry::demo::server::Generation::{V2, V3};

            use crate::stage::{Stage, Way};

            #[tokio::test(flavor = "multi_thread")]
            #[ignore = "needs docker-registry 2.8: run scripts/test"]
            async fn registry_2() {
                super::$scenario(&Stage::new(V2), Way::$on_2).await;
            }

            #[tokio::test(flavor = "multi_thread")]
            #[ignore = "needs Distribution 3.1: run scripts/test"]
            async fn registry_3() {
                super::$scenario(&Stage::new(V3), Way::$on_3).await;
            }
        }
    )+ };
}

mod alone;
mod broken;
mod cached;
mod faults;
mod killed;
mod killed_for_real;
mod locks;
mod mortal;
mod needed;
mod planned;
mod several;
mod stage;
mod torn;
mod unseen;
mod young;
