//! The law of archives through whole stores: what one store saved is the same in another, and is saved there as the same
//! bytes, whatever it is and wherever it came from.

use proptest::prelude::*;

use super::*;

/// One image, or several below one index.
#[derive(Clone, Debug)]
enum Recipe {
    /// Made in the store, of layers with these contents.
    Made(Vec<String>),
    /// Loaded: for the platforms of these numbers, with these layers, in gzip or as they are.
    Came(Vec<(usize, String)>, bool),
}

const ARCHITECTURES: [&str; 4] = ["amd64", "arm64", "s390x", "riscv64"];

fn recipes() -> impl Strategy<Value = Vec<Recipe>> {
    let made = prop::collection::vec("[a-c]{1,3}", 1..3).prop_map(Recipe::Made);
    let entries = prop::collection::btree_map(0..ARCHITECTURES.len(), "[a-c]{1,3}", 1..4);
    let came =
        (entries, any::<bool>()).prop_map(|(entries, is_gzip)| Recipe::Came(entries.into_iter().collect(), is_gzip));
    prop::collection::vec(prop_oneof![made, came], 1..4)
}

/// Makes an image in the store under its name.
async fn make(store: &Arc<Store>, number: usize, recipe: &Recipe) -> String {
    let name = format!("reg.example/team/app{number}:1");
    match recipe {
        Recipe::Made(contents) => {
            let lease = fixture::lease(store, &format!("l{number}")).await;
            let mut layers = Vec::new();
            for content in contents {
                layers.push(fixture::layer(store, &lease, content).await);
            }
            fixture::create(store, &lease, &layers, &[&name]).await.unwrap();
            store.catalog.delete_lease(&lease).await.unwrap();
        }
        Recipe::Came(entries, is_gzip) => {
            let mut layout = Layout::default();
            let codec = is_gzip.then_some(Codec::Gzip(2));
            let images: Vec<_> = entries
                .iter()
                .map(|(at, content)| (layout.image(ARCHITECTURES[*at], content, codec), ARCHITECTURES[*at]))
                .collect();
            let root = match images.as_slice() {
                [(image, _)] => image.clone(),
                several => {
                    let several: Vec<_> = several.iter().map(|(image, architecture)| (image, *architecture)).collect();
                    layout.index(&several)
                }
            };
            load_all(store, &layout.tar(root, &name)).await.unwrap();
        }
    }
    name
}

/// What a store says of a name: the images of its platforms.
async fn told(store: &Arc<Store>, name: &str) -> Vec<(String, Option<Digest>)> {
    let mut found = Vec::new();
    for architecture in ARCHITECTURES {
        let only = Platforms::Only(Platform::parse(&format!("linux/{architecture}")).unwrap());
        let image = image::get_on(store, name, only, None).await.ok();
        found.push((architecture.to_owned(), image.map(|image| image.row.id)));
    }
    found
}

async fn hold(recipes: &[Recipe], format: Format) {
    let (_from, from) = fixture::store().await;
    let mut names = Vec::new();
    for (number, recipe) in recipes.iter().enumerate() {
        names.push(make(&from, number, recipe).await);
    }
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let saved = save(&from, &names, format, Platforms::All).await;
    let (_to, to) = fixture::store().await;

    load_all(&to, &saved).await.unwrap();

    for name in &names {
        let (here, there) = (told(&from, name).await, told(&to, name).await);
        assert!(here.iter().any(|(_, image)| image.is_some()), "{name}");
        assert_eq!(here, there, "{name}");
    }
    let again = save(&to, &names, format, Platforms::All).await;
    assert!(again == saved, "saved again, it is another archive");
}

proptest! {
    // Each case opens two stores.
    #![proptest_config(ProptestConfig { cases: 12, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn save_then_load_is_the_identity(recipes in recipes(), is_docker: bool) {
        let format = if is_docker { Format::DockerArchive } else { Format::OciLayout };
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
        runtime.block_on(hold(&recipes, format));
    }
}
