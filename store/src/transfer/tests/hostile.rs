//! Another store that lies, in each of its answers: an error that says so, and nothing of it stays.

use super::*;

/// What the question of each number is about, as far as its answers tell: the receiver asks in a fixed order here.
const RECIPE: u32 = 3;
const CONTENTS: u32 = 4;

/// Copies the update with some answers changed; says how it ended, and checks that nothing came of it.
async fn lied(change: impl FnMut(Answer) -> Option<Vec<Answer>> + Send) -> Error {
    let pair = pair().await;
    updated(&pair).await;
    let before = layers(&pair.to);

    let refused = copy(&pair, "base:2", what("base:2"), change).await;

    let found = image::get(&pair.to, "base:2", None).await;
    assert!(matches!(found, Err(Error::ImageNotFound { .. })), "{found:?}");
    assert_eq!(layers(&pair.to), before, "a layer is left");
    assert_eq!(partials(&pair.to), [""; 0], "bytes are left");
    refused.expect_err("it was a lie")
}

fn chunk(id: u32, bytes: impl Into<Bytes>) -> Answer {
    Answer { id, part: Part::Chunk(bytes.into()) }
}

/// Changes the first chunk of one answer.
fn in_chunk(id: u32, mut change: impl FnMut(&mut Vec<u8>) + Send) -> impl FnMut(Answer) -> Option<Vec<Answer>> + Send {
    let mut is_done = false;
    move |answer| match answer {
        Answer { id: found, part: Part::Chunk(bytes) } if found == id && !is_done => {
            is_done = true;
            let mut bytes = bytes.to_vec();
            change(&mut bytes);
            Some(vec![chunk(id, bytes)])
        }
        other => Some(vec![other]),
    }
}

/// Replaces an answer by a head and these chunks.
fn instead(id: u32, chunks: Vec<Bytes>) -> impl FnMut(Answer) -> Option<Vec<Answer>> + Send {
    move |answer| match answer {
        Answer { id: found, part: Part::End } if found == id => {
            let mut all: Vec<Answer> = chunks.iter().map(|bytes| chunk(id, bytes.clone())).collect();
            all.push(Answer { id, part: Part::End });
            Some(all)
        }
        Answer { id: found, part: Part::Chunk(_) } if found == id => Some(vec![]),
        other => Some(vec![other]),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_questions_are_those_that_the_lies_are_about() {
    let pair = pair().await;
    updated(&pair).await;
    let wire = Wire::default();
    copy(&pair, "base:2", what("base:2"), cut_after(u64::MAX, &wire)).await.unwrap();

    let of = |id: u32| -> usize {
        wire.0.lock().unwrap().iter().filter(|(found, ..)| *found == id).map(|(_, _, bytes)| *bytes).sum()
    };

    assert!((3000..20_000).contains(&of(RECIPE)), "{} bytes of a recipe", of(RECIPE));
    assert!(of(CONTENTS) > 5 * UNIT, "{} bytes of contents", of(CONTENTS));
    assert_eq!(of(CONTENTS + 1), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_document_that_is_not_its_digest_is_refused() {
    let error = lied(in_chunk(0, |bytes| bytes[20] ^= 1)).await;

    assert!(matches!(error, Error::DigestMismatch { .. }), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_config_that_is_not_its_digest_is_refused() {
    let error = lied(in_chunk(1, |bytes| bytes[20] ^= 1)).await;

    assert!(matches!(error, Error::Image(strata_image::Error::DigestMismatch { .. })), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_recipe_that_makes_another_archive_is_refused() {
    // A true recipe, of the layer before.
    let pair = pair().await;
    updated(&pair).await;
    let base = image::get(&pair.from, "base:1", None).await.unwrap();
    let toc = crate::layer::table_of_contents(&pair.from, &base.layers[0].id).await.unwrap();
    let other = Bytes::from(toc.recipe().unwrap().encode());

    let error = lied(instead(RECIPE, vec![other])).await;

    assert!(matches!(error, Error::DiffIdMismatch { .. } | Error::DigestMismatch { .. }), "{error:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_recipe_that_makes_no_sense_is_refused() {
    for bytes in [&b""[..], b"STRARCP1", &[7; 100_000]] {
        let error =
            lied(instead(RECIPE, if bytes.is_empty() { vec![] } else { vec![Bytes::from_static(bytes)] })).await;
        assert!(matches!(error, Error::Archive { source: strata_archive::Error::Recipe { .. } }), "{error:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn contents_that_are_others_are_refused() {
    // Noise is not compressed: a byte in the middle of a block is one of a content.
    let error = lied(in_chunk(CONTENTS, |bytes| bytes[30_000] ^= 1)).await;

    assert!(matches!(error, Error::Content(crate::content::Error::DigestMismatch { .. })), "{error:?}");
}

/// Contents that are asked for, and perhaps more.
fn contents(count: u64) -> Vec<Bytes> {
    let mut all = strata_archive::encoder(Vec::new()).unwrap();
    (1000..1000 + count).for_each(|seed| all.write_all(&noise(seed, UNIT)).unwrap());
    let bytes = Bytes::from(all.finish().unwrap());
    let at = (0..bytes.len()).step_by(200_000);
    at.map(|start| bytes.slice(start..bytes.len().min(start + 200_000))).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn contents_that_are_too_few_are_refused() {
    for count in [0, 4] {
        let error = lied(instead(CONTENTS, contents(count))).await;
        assert!(matches!(error, Error::Transfer { .. }), "{count}: {error:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn contents_that_nobody_asked_for_are_refused() {
    let pair = pair().await;
    updated(&pair).await;

    let refused = copy(&pair, "base:2", what("base:2"), instead(CONTENTS, contents(6))).await;

    assert!(matches!(refused, Err(Error::Transfer { .. })), "{refused:?}");
    assert_eq!(partials(&pair.to), [""; 0]);
    // The layer was right, and stays for another try.
    assert!(simply(&pair, "base:2").await.moved < 4096);
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_without_end_are_cut_off() {
    for (id, piece) in [
        (0, Bytes::from(vec![b' '; 200_000])),
        (1, Bytes::from(vec![b' '; 200_000])),
        (RECIPE, Bytes::from(vec![0; 200_000])),
        // Empty frames of zstd: they inflate to nothing, for ever.
        (CONTENTS, Bytes::from(zstd_of_nothing().repeat(10_000))),
        // A frame that is skipped.
        (CONTENTS, Bytes::from([&[0x50, 0x2a, 0x4d, 0x18, 0, 0, 0, 0x7f][..], &[0; 200_000]].concat())),
    ] {
        let mut sent = 0_u64;
        let endless = move |answer: Answer| match answer {
            Answer { id: found, part: Part::Head(head) } if found == id => {
                let head = Answer { id, part: Part::Head(head) };
                let count = (80 << 20) / piece.len();
                sent += 1;
                Some(std::iter::once(head).chain((0..count).map(|_| chunk(id, piece.clone()))).collect())
            }
            Answer { id: found, .. } if found == id && sent > 0 => Some(vec![]),
            other => Some(vec![other]),
        };

        let error = lied(endless).await;

        assert!(matches!(error, Error::Transfer { .. }), "{id}: {error:?}");
    }
}

fn zstd_of_nothing() -> Vec<u8> {
    strata_archive::encoder(Vec::new()).unwrap().finish().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_head_that_contradicts_the_protocol_is_refused() {
    for change in [
        |head: &mut Head| head.descriptor = None,
        |head: &mut Head| head.descriptor.as_mut().unwrap().size = u64::MAX,
        |head: &mut Head| head.descriptor.as_mut().unwrap().size += 1,
        |head: &mut Head| head.is_absent = true,
    ] {
        let error = lied(move |answer| match answer {
            Answer { id: 0, part: Part::Head(mut head) } => {
                change(&mut head);
                Some(vec![Answer { id: 0, part: Part::Head(head) }])
            }
            other => Some(vec![other]),
        })
        .await;

        assert!(matches!(error, Error::Transfer { .. } | Error::DigestMismatch { .. }), "{error:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_whole_layer_that_is_another_is_refused_and_not_kept() {
    for place in [30_usize, 300_000] {
        let pair = pair().await;
        import(&pair.from, "fresh:1", tar(0..20, 1)).await;
        let mut passed = 0;
        let damage = move |answer: Answer| {
            let Answer { id, part: Part::Chunk(bytes) } = answer else { return Some(vec![answer]) };
            // Documents are small.
            if bytes.len() < 50_000 {
                return Some(vec![chunk(id, bytes)]);
            }
            let mut bytes = bytes.to_vec();
            if (passed..passed + bytes.len()).contains(&place) {
                bytes[place - passed] ^= 0x55;
            }
            passed += bytes.len();
            Some(vec![chunk(id, bytes)])
        };

        let error = copy(&pair, "fresh:1", what("fresh:1"), damage).await.unwrap_err();

        assert!(matches!(error, Error::DigestMismatch { .. } | Error::Archive { .. }), "{place}: {error:?}");
        assert_eq!((layers(&pair.to), partials(&pair.to).len()), (0, 0));
        simply(&pair, "fresh:1").await;
    }
}
